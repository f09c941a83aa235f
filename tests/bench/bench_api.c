// SPDX-License-Identifier: Apache-2.0
// bench-api ADDR PORT COMMAND ..., a client of the REST API that measures, on one kept connection:
//   put SERVICES BACKENDS   makes the services and their backends, one PUT each
//   get SERVICES BACKENDS   reads one backend of each service
//   config FILE             PUT /config with this body
//   patch PATH COUNT        PATCH with another weight, one after the other
//   beat SECONDS            GET /healthz every millisecond
//   loop PATH SECONDS       GET of something large, a connection each, over and over
// and prints one JSON object: seconds, or microseconds of one request. Plain blocking sockets: the client's own share
// is as small as it can be.
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BEAT_US 1000.0

static const char *server_addr, *server_port;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void die(const char *what, const char *detail)
{
	fprintf(stderr, "bench-api: %s: %s\n", what, detail);
	exit(1);
}

static void *allocate(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (!memory)
		die("out of memory", "sorry");
	return memory;
}

static int connect_to_server(void)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(server_port)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || inet_pton(AF_INET, server_addr, &sa.sin_addr) != 1 ||
		connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
		die("connect", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

static void send_all(int fd, const char *data, size_t len)
{
	while (len) {
		ssize_t n = write(fd, data, len);

		if (n <= 0)
			die("write", strerror(errno));
		data += n;
		len -= (size_t)n;
	}
}

// Reads a small answer with a length. Returns its status; the body, if asked for, points into a buffer of ours.
static int read_answer(int fd, const char *what, const char **ret_body)
{
	static char buf[65536];
	size_t got = 0;

	for (;;) {
		ssize_t n = read(fd, buf + got, sizeof(buf) - got - 1);

		if (n <= 0)
			die(what, "the connection ended");
		got += (size_t)n;
		buf[got] = '\0';
		const char *end = strstr(buf, "\r\n\r\n"), *length = strstr(buf, "Content-Length: ");

		if (!end || !length || got < (size_t)(end + 4 - buf) + (size_t)atoi(length + 16))
			continue;
		if (ret_body)
			*ret_body = end + 4;
		return atoi(buf + strlen("HTTP/1.1 "));
	}
}

// One request, one answer; anything but 200 ends the run.
static void request(int fd, const char *method, const char *path, const char *body)
{
	char buf[1024];
	const char *answer;
	int len = snprintf(buf, sizeof(buf), "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %zu\r\n\r\n%s", method,
		path, strlen(body), body);

	send_all(fd, buf, (size_t)len);
	if (read_answer(fd, path, &answer) != 200)
		die(path, answer);
}

// --- requests, one after the other ---

static void put_all(int fd, int services, int backends)
{
	char path[64], body[160];

	for (int s = 0; s < services; s++) {
		snprintf(path, sizeof(path), "/service/s%d", s);
		snprintf(body, sizeof(body), "{\"host\":\"10.100.%d.%d\",\"port\":80,\"method\":\"rr\"}", s / 250,
			s % 250 + 1);
		request(fd, "PUT", path, body);
		for (int b = 0; b < backends; b++) {
			snprintf(path, sizeof(path), "/service/s%d/b%d", s, b);
			snprintf(body, sizeof(body),
				"{\"host\":\"10.90.%d.%d\",\"method\":\"dr\",\"pulse\":{\"type\":\"none\"}}", b / 250,
				b % 250 + 1);
			request(fd, "PUT", path, body);
		}
	}
}

static void get_all(int fd, int services)
{
	char path[64];

	for (int s = 0; s < services; s++) {
		snprintf(path, sizeof(path), "/service/s%d/b0", s);
		request(fd, "GET", path, "");
	}
}

static int run_all(char **args)
{
	int puts = strcmp(args[0], "put") == 0, services = atoi(args[1]), backends = atoi(args[2]);

	if (services < 1 || services > 38000 || backends < 1 || backends > 60000)
		return 2;
	int fd = connect_to_server();
	double begin = now();

	if (puts)
		put_all(fd, services, backends);
	else
		get_all(fd, services);
	printf("{\"requests\": %d, \"seconds\": %.4f}\n", puts ? services * (backends + 1) : services, now() - begin);
	close(fd);
	return 0;
}

// --- the whole state in one request ---

static char *read_file(const char *path, size_t *ret_len)
{
	FILE *file = fopen(path, "re");

	if (!file || fseek(file, 0, SEEK_END))
		die(path, strerror(errno));
	size_t len = (size_t)ftell(file);
	char *text = allocate(len + 1, 1);

	rewind(file);
	if (fread(text, 1, len, file) != len)
		die(path, "cannot read it");
	fclose(file);
	*ret_len = len;
	return text;
}

static int run_config(char **args)
{
	size_t len;
	char *body = read_file(args[1], &len), head[128];
	const char *answer;
	int fd = connect_to_server(),
	    n = snprintf(head, sizeof(head), "PUT /config HTTP/1.1\r\nHost: bench\r\nContent-Length: %zu\r\n\r\n", len);
	double begin = now();

	send_all(fd, head, (size_t)n);
	send_all(fd, body, len);
	int status = read_answer(fd, "/config", &answer);
	double seconds = now() - begin;

	if (status != 200 && status != 404 && status != 405)
		die("/config", answer);
	printf("{\"status\": %d, \"seconds\": %.6f, \"bytes\": %zu, \"answer\": %s}\n", status, seconds, len,
		status == 200 ? answer : "null");
	free(body);
	close(fd);
	return 0;
}

// --- how long single requests take ---

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void print_latencies(double *us, size_t count)
{
	qsort(us, count, sizeof(*us), by_value);
	printf("{\"requests\": %zu, \"median_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", count, us[count / 2],
		us[count * 99 / 100], us[count - 1]);
}

static int run_patch(char **args)
{
	size_t count = (size_t)atol(args[2]);

	if (!count || count > 10000000)
		return 2;
	double *us = allocate(count, sizeof(*us));
	int fd = connect_to_server();

	for (size_t i = 0; i < count; i++) {
		char body[32];

		snprintf(body, sizeof(body), "{\"weight\": %zu}", i % 2 ? 100 : 99ul);
		double begin = now();
		request(fd, "PATCH", args[1], body);
		us[i] = (now() - begin) * 1e6;
	}
	print_latencies(us, count);
	free(us);
	close(fd);
	return 0;
}

// A request that had to wait kept those behind it from being sent: each of them counts as well, with what was left of
// the wait when it was due. Else one long stop would be one slow request among a thousand.
static size_t take(double *us, size_t count, size_t room, double took)
{
	do
		us[count++] = took;
	while ((took -= BEAT_US) > 0 && count < room);
	return count;
}

static int run_beat(char **args)
{
	double seconds = atof(args[1]);

	if (!(seconds > 0 && seconds <= 3600))
		return 2;
	size_t room = (size_t)(seconds * 1e6 / BEAT_US) * 4 + 1000, count = 0;
	double *us = allocate(room, sizeof(*us)), begin = now(), due = begin;
	int fd = connect_to_server();

	while (due < begin + seconds && count < room) {
		struct timespec at = { .tv_sec = (time_t)due, .tv_nsec = (long)((due - (double)(time_t)due) * 1e9) };

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL);
		double sent = now();
		request(fd, "GET", "/healthz", "");
		double answered = now();

		count = take(us, count, room, (answered - sent) * 1e6);
		do
			due += BEAT_US / 1e6;
		while (due < answered);
	}
	print_latencies(us, count);
	free(us);
	close(fd);
	return 0;
}

// A GET whose answer may come in chunks; it is read and forgotten. Returns its bytes.
static size_t get_large(const char *path)
{
	static char buf[1 << 18];
	char head[256], tail[8] = "";
	size_t got = 0;
	int fd = connect_to_server(), chunked = 0,
	    n = snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n", path);

	send_all(fd, head, (size_t)n);
	for (;;) {
		ssize_t len = read(fd, buf, sizeof(buf) - 1);

		if (len < 0)
			die(path, strerror(errno));
		if (len == 0)
			break;
		buf[len] = '\0';
		if (!got && strncmp(buf, "HTTP/1.1 200", 12) != 0)
			die(path, buf);
		if (!got)
			chunked = strcasestr(buf, "Transfer-Encoding: chunked") != NULL;
		got += (size_t)len;
		if (len >= 5)
			memcpy(tail, buf + len - 5, 5);
		else // the end of the end
			memmove(tail, tail + len, 5 - (size_t)len), memcpy(tail + 5 - len, buf, (size_t)len);
	}
	if (chunked && strcmp(tail, "0\r\n\r\n") != 0)
		die(path, "the answer was cut short");
	close(fd);
	return got;
}

static int run_loop(char **args)
{
	double seconds = atof(args[2]), begin = now();
	size_t count = 0, bytes = 0;

	while (!count || now() < begin + seconds) {
		bytes = get_large(args[1]);
		count++;
	}
	printf("{\"requests\": %zu, \"seconds\": %.4f, \"bytes\": %zu}\n", count, now() - begin, bytes);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int words; // with the name
		int (*run)(char **args);
	} commands[] = {
		{ "put", 3, run_all },
		{ "get", 3, run_all },
		{ "config", 2, run_config },
		{ "patch", 3, run_patch },
		{ "beat", 2, run_beat },
		{ "loop", 3, run_loop },
	};

	for (size_t i = 0; argc > 3 && i < sizeof(commands) / sizeof(*commands); i++) {
		if (strcmp(argv[3], commands[i].name) != 0 || argc != 3 + commands[i].words)
			continue;
		server_addr = argv[1];
		server_port = argv[2];
		int rc = commands[i].run(argv + 3);
		if (rc != 2)
			return rc;
	}
	fprintf(stderr,
		"usage: bench-api ADDR PORT put|get SERVICES BACKENDS | config FILE | patch PATH COUNT |"
		" beat SECONDS | loop PATH SECONDS\n");
	return 2;
}
