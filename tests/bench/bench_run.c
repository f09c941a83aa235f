// SPDX-License-Identifier: Apache-2.0
// bench-run FILE COMMAND...: runs the command and writes to FILE, as JSON, what it cost. A small program, because the
// kernel counts the memory of whoever starts a process as that process's peak.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// CPU time as the scheduler counts it, to the nanosecond; rusage has it in ticks.
static double cpu_of(pid_t pid)
{
	struct timespec t = { 0 };
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
		perror("bench-run: CPU clock");
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	struct rusage usage;
	siginfo_t info;
	int status;

	if (argc < 3) {
		fprintf(stderr, "usage: bench-run FILE COMMAND...\n");
		return 2;
	}
	double begin = now();
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[2], argv + 2);
		fprintf(stderr, "bench-run: %s: %s\n", argv[2], strerror(errno));
		_exit(127);
	}
	if (pid < 0 || waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT)) {
		perror("bench-run");
		return 1;
	}
	double seconds = now() - begin, cpu = cpu_of(pid);
	if (wait4(pid, &status, 0, &usage) != pid) {
		perror("bench-run");
		return 1;
	}
	FILE *file = fopen(argv[1], "we");

	if (!file) {
		perror(argv[1]);
		return 1;
	}
	fprintf(file, "{\"seconds\": %.6f, \"cpu\": %.6f, \"peak_kib\": %ld, \"faults\": %ld}\n", seconds, cpu,
		usage.ru_maxrss, usage.ru_minflt);
	if (fclose(file)) {
		perror(argv[1]);
		return 1;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
