// SPDX-License-Identifier: Apache-2.0
// bench-api put|get SERVICES BACKENDS ADDR PORT, on one kept connection:
//   put  makes the services and their backends, one PUT each
//   get  reads one backend of each service
// and prints how many requests in how many seconds. Plain blocking sockets: the client's own share is as small as it
// can be.
#include <arpa/inet.h>
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
			fprintf(stderr, "bench-api: %s %s: the connection ended\n", method, path);
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

static void put_all(int fd, int services, int backends)
{
	char path[64], body[160];

	for (int s = 0; s < services; s++) {
		snprintf(path, sizeof(path), "/service/s%d", s);
		snprintf(body, sizeof(body), "{\"host\":\"10.%d.%d.1\",\"port\":80,\"method\":\"rr\"}", 100 + s / 250,
			s % 250);
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

int main(int argc, char **argv)
{
	int puts = argc == 6 && strcmp(argv[1], "put") == 0, services = argc == 6 ? atoi(argv[2]) : 0,
	    backends = argc == 6 ? atoi(argv[3]) : 0;

	if (services < 1 || services > 38000 || backends < 1 || backends > 60000 ||
		(!puts && strcmp(argv[1], "get") != 0)) {
		fprintf(stderr, "usage: bench-api put|get SERVICES BACKENDS ADDR PORT\n");
		return 2;
	}
	int fd = connect_to(argv[4], argv[5]);
	double begin = now();

	if (puts)
		put_all(fd, services, backends);
	else
		get_all(fd, services);
	printf("{\"requests\": %d, \"seconds\": %.4f}\n", puts ? services * (backends + 1) : services, now() - begin);
	close(fd);
	return 0;
}
