// SPDX-License-Identifier: Apache-2.0
// bench-api SERVICES BACKENDS ADDR PORT: makes the services and their backends through the REST API, one PUT each on
// one kept connection, and prints the seconds that it took. Then as many GETs of one backend. Plain blocking sockets:
// the client's own share is as small as it can be.
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

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int connect_to(const char *addr, const char *port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	if (fd < 0 || inet_pton(AF_INET, addr, &sa.sin_addr) != 1 || connect(fd, (struct sockaddr *)&sa, sizeof(sa))) {
		perror("bench-api: connect");
		exit(1);
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

// One request, one answer; anything but 200 ends the run.
static void request(int fd, const char *method, const char *path, const char *body)
{
	char buf[16384];
	int len = snprintf(buf, sizeof(buf), "%s %s HTTP/1.1\r\nHost: bench\r\nContent-Length: %zu\r\n\r\n%s", method,
		path, strlen(body), body);
	size_t got = 0;

	if (write(fd, buf, (size_t)len) != len) {
		perror("bench-api: write");
		exit(1);
	}
	for (;;) {
		ssize_t n = read(fd, buf + got, sizeof(buf) - got - 1);

		if (n <= 0) {
			fprintf(stderr, "bench-api: the connection ended\n");
			exit(1);
		}
		got += (size_t)n;
		buf[got] = '\0';
		const char *end = strstr(buf, "\r\n\r\n"), *length = strstr(buf, "Content-Length: ");

		if (end && length && got >= (size_t)(end + 4 - buf) + (size_t)atoi(length + 16))
			break;
	}
	if (strncmp(buf, "HTTP/1.1 200", 12) != 0) {
		fprintf(stderr, "bench-api: %s %s: %s\n", method, path, buf);
		exit(1);
	}
}

int main(int argc, char **argv)
{
	if (argc != 5) {
		fprintf(stderr, "usage: bench-api SERVICES BACKENDS ADDR PORT\n");
		return 2;
	}
	int services = atoi(argv[1]), backends = atoi(argv[2]), fd = connect_to(argv[3], argv[4]);
	char path[64], body[160];
	double begin = now();

	for (int s = 0; s < services; s++) {
		snprintf(path, sizeof(path), "/service/s%d", s);
		snprintf(body, sizeof(body), "{\"host\":\"10.%d.%d.1\",\"port\":80,\"method\":\"rr\"}", 100 + s / 250,
			s % 250);
		request(fd, "PUT", path, body);
		for (int b = 0; b < backends; b++) {
			snprintf(path, sizeof(path), "/service/s%d/b%d", s, b);
			snprintf(body, sizeof(body),
				"{\"host\":\"10.200.%d.%d\",\"method\":\"dr\",\"pulse\":{\"type\":\"none\"}}", b / 250,
				b % 250 + 1);
			request(fd, "PUT", path, body);
		}
	}
	double made = now();
	int gets = 1000;

	for (int i = 0; i < gets; i++)
		request(fd, "GET", "/service/s0/b0", "");
	double end = now();

	printf("{\"puts\": %d, \"put_seconds\": %.3f, \"gets\": %d, \"get_seconds\": %.3f}\n",
		services * (backends + 1), made - begin, gets, end - made);
	close(fd);
	return 0;
}
