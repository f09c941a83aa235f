// SPDX-License-Identifier: Apache-2.0
// A real server that says who it is, over HTTP/1.1 and UDP on one port, both families.
//
//   GET /          NAME and a newline
//   GET /bytes/N   N bytes
//   GET /slow/MS   NAME, after MS milliseconds
//   GET /health    200, or 503 while DOWNFILE exists
//
// From SIGUSR1 to SIGUSR2 every answer takes three seconds. Every answer carries "X-Server: NAME". Bodies of requests
// are read and forgotten before the answer goes out. A datagram is answered with NAME, from the address that it was
// sent to. Prints one line when it listens.
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define REQUEST_MAX 8192
#define EVENTS 64

struct conn {
	int fd;
	char in[REQUEST_MAX + 1];
	size_t in_len;
	uint64_t skip; // bytes of a request's body that are still to come
	bool in_request, close_after, wants_out;
	int64_t due_ms; // the answer goes out then; 0: no answer is waiting
	char out[512];
	size_t out_len, out_done;
	uint64_t fill; // bytes that follow out
	struct conn *next_slow;
};

struct server {
	const char *name, *down_file;
	int epoll, tcp, udp;
	struct conn *slow; // those with due_ms
};

#define TIRED_MS 3000

static volatile sig_atomic_t tired;
static char filler[65536];

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void watch(struct server *server, int fd, uint32_t events, void *ptr, int operation)
{
	struct epoll_event event = { .events = events, .data.ptr = ptr };

	epoll_ctl(server->epoll, operation, fd, &event);
}

static void forget_slow(struct server *server, struct conn *conn)
{
	for (struct conn **link = &server->slow; *link; link = &(*link)->next_slow) {
		if (*link == conn) {
			*link = conn->next_slow;
			return;
		}
	}
}

static void hang_up(struct server *server, struct conn *conn)
{
	if (conn->due_ms)
		forget_slow(server, conn);
	close(conn->fd);
	free(conn);
}

// --- one request ---

// The value of a header, NULL without it; name as it is written, with the colon.
static const char *header(const char *head, const char *name)
{
	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, strlen(name)) == 0)
			return line + strlen(name) + strspn(line + strlen(name), " \t");
	}
	return NULL;
}

static void answer(struct server *server, struct conn *conn, const char *path)
{
	const char *status = "200 OK", *body = "";
	uint64_t length = strlen(server->name) + 1;

	conn->fill = 0;
	if (strncmp(path, "/bytes/", 7) == 0) {
		conn->fill = length = strtoull(path + 7, NULL, 10);
	} else {
		if (strcmp(path, "/health") == 0 && server->down_file && access(server->down_file, F_OK) == 0)
			status = "503 Service Unavailable";
		else if (strcmp(path, "/") != 0 && strcmp(path, "/health") != 0 && strncmp(path, "/slow/", 6) != 0)
			status = "404 Not Found";
		body = server->name;
	}
	int n = snprintf(conn->out, sizeof(conn->out),
		"HTTP/1.1 %s\r\nX-Server: %s\r\nContent-Type: text/plain\r\nContent-Length: %llu\r\n%s\r\n%s%s", status,
		server->name, (unsigned long long)length, conn->close_after ? "Connection: close\r\n" : "", body,
		*body ? "\n" : "");
	conn->out_len = (size_t)n < sizeof(conn->out) ? (size_t)n : sizeof(conn->out) - 1;
	conn->out_done = 0;
	const bool slow = strncmp(path, "/slow/", 6) == 0;
	if (slow || tired) {
		conn->due_ms = now_ms() + (slow ? strtol(path + 6, NULL, 10) : TIRED_MS);
		conn->next_slow = server->slow;
		server->slow = conn;
	}
}

static bool refuse(struct conn *conn, const char *status)
{
	int n = snprintf(
		conn->out, sizeof(conn->out), "HTTP/1.1 %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status);

	conn->out_len = (size_t)n;
	conn->out_done = 0;
	conn->close_after = conn->in_request = true;
	conn->in_len = conn->skip = 0;
	return true;
}

// Takes a request's head out of the input. False: it is not complete yet.
static bool read_head(struct server *server, struct conn *conn)
{
	conn->in[conn->in_len] = '\0';
	char *end = strstr(conn->in, "\r\n\r\n");
	if (!end)
		return conn->in_len == REQUEST_MAX ? refuse(conn, "431 Request Header Fields Too Large") : false;
	end[2] = '\0';
	char path[256] = "", version[16] = "";
	if (sscanf(conn->in, "%*15s %255s %15s", path, version) != 2)
		return refuse(conn, "400 Bad Request");
	if (header(conn->in, "Transfer-Encoding:"))
		return refuse(conn, "501 Not Implemented");
	const char *length = header(conn->in, "Content-Length:"), *connection = header(conn->in, "Connection:");
	if (header(conn->in, "Expect:") && send(conn->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL) < 0)
		return refuse(conn, "417 Expectation Failed");
	conn->skip = length ? strtoull(length, NULL, 10) : 0;
	conn->close_after =
		strcmp(version, "HTTP/1.0") == 0 || (connection && strncasecmp(connection, "close", 5) == 0);
	conn->in_request = true;
	size_t used = (size_t)(end + 4 - conn->in);
	conn->in_len -= used;
	memmove(conn->in, conn->in + used, conn->in_len);
	answer(server, conn, path);
	return true;
}

// Sends what can be sent. False: the connection is gone.
static bool send_answer(struct server *server, struct conn *conn)
{
	ssize_t n = 0;

	while (conn->out_done < conn->out_len || conn->fill) {
		if (conn->out_done < conn->out_len) {
			n = send(conn->fd, conn->out + conn->out_done, conn->out_len - conn->out_done,
				MSG_NOSIGNAL | (conn->fill ? MSG_MORE : 0));
			if (n > 0)
				conn->out_done += (size_t)n;
		} else {
			n = send(conn->fd, filler, conn->fill < sizeof(filler) ? conn->fill : sizeof(filler),
				MSG_NOSIGNAL);
			if (n > 0)
				conn->fill -= (uint64_t)n;
		}
		if (n < 0)
			break;
	}
	if (n < 0 && errno != EAGAIN)
		return false;
	if ((n < 0) != conn->wants_out) {
		conn->wants_out = n < 0;
		watch(server, conn->fd, conn->wants_out ? EPOLLOUT : EPOLLIN, conn, EPOLL_CTL_MOD);
	}
	if (n < 0)
		return true;
	conn->in_request = false;
	return !conn->close_after;
}

static bool receive(struct conn *conn)
{
	ssize_t n;

	if (conn->skip && !conn->in_len)
		n = recv(conn->fd, NULL, conn->skip < INT_MAX ? conn->skip : INT_MAX, MSG_DONTWAIT | MSG_TRUNC);
	else
		n = recv(conn->fd, conn->in + conn->in_len, REQUEST_MAX - conn->in_len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (conn->skip && !conn->in_len)
		conn->skip -= (uint64_t)n;
	else
		conn->in_len += (size_t)n;
	return true;
}

static void serve(struct server *server, struct conn *conn, bool readable)
{
	bool alive = !readable || conn->wants_out || receive(conn);

	while (alive) {
		if (!conn->in_request && !read_head(server, conn))
			return;
		size_t now = conn->skip < conn->in_len ? (size_t)conn->skip : conn->in_len;
		if (now) {
			conn->skip -= now;
			conn->in_len -= now;
			memmove(conn->in, conn->in + now, conn->in_len);
		}
		if (conn->skip || conn->due_ms)
			return;
		alive = send_answer(server, conn);
		if (alive && conn->in_request)
			return; // the rest when there is room
	}
	hang_up(server, conn);
}

static int serve_slow(struct server *server)
{
	int64_t now = server->slow ? now_ms() : 0, next = INT_MAX;

	for (struct conn *conn = server->slow, *after; conn; conn = after) {
		after = conn->next_slow;
		if (conn->due_ms > now) {
			next = conn->due_ms - now < next ? conn->due_ms - now : next;
			continue;
		}
		forget_slow(server, conn);
		conn->due_ms = 0;
		serve(server, conn, false);
		after = server->slow; // serving may have queued this connection again
		next = INT_MAX;
	}
	return next == INT_MAX ? -1 : (int)next;
}

static void take_connections(struct server *server)
{
	int fd, one = 1;

	while ((fd = accept4(server->tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *conn = calloc(1, sizeof(*conn));

		if (!conn) {
			close(fd);
			return;
		}
		conn->fd = fd;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		watch(server, fd, EPOLLIN, conn, EPOLL_CTL_ADD);
	}
}

// --- datagrams ---

static void answer_datagrams(struct server *server)
{
	for (;;) {
		struct sockaddr_in6 peer;
		union {
			struct cmsghdr header; // aligns
			char room[CMSG_SPACE(sizeof(struct in6_pktinfo))];
		} control;
		char data[2048];
		struct iovec part = { data, sizeof(data) };
		struct msghdr msg = { &peer, sizeof(peer), &part, 1, &control, sizeof(control), 0 };

		if (recvmsg(server->udp, &msg, MSG_DONTWAIT) < 0)
			return;
		// the source of the answer is where the question went, which the kernel told in the same message; it
		// may leave by another device
		for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
			struct in6_pktinfo info;

			if (c->cmsg_level != IPPROTO_IPV6 || c->cmsg_type != IPV6_PKTINFO)
				continue;
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			info.ipi6_ifindex = 0;
			memcpy(CMSG_DATA(c), &info, sizeof(info));
		}
		part.iov_len = (size_t)snprintf(data, sizeof(data), "%s\n", server->name);
		sendmsg(server->udp, &msg, MSG_DONTWAIT);
	}
}

// --- start ---

static void on_signal(int number)
{
	tired = number == SIGUSR1;
}

// An IPv6 socket for both families; an IPv4 address is written the mapped way.
static int open_socket(int type, const char *address, uint16_t port)
{
	struct sockaddr_in6 sa = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int one = 1, zero = 0, fd = socket(AF_INET6, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char mapped[80];

	snprintf(mapped, sizeof(mapped), "::ffff:%s", address ? address : "");
	if (address && inet_pton(AF_INET6, strchr(address, ':') ? address : mapped, &sa.sin6_addr) != 1) {
		fprintf(stderr, "lab-serve: %s is not an address\n", address);
		exit(2);
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof(zero));
	if (type == SOCK_DGRAM)
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || (type == SOCK_STREAM && listen(fd, 4096))) {
		fprintf(stderr, "lab-serve: port %u: %s\n", port, strerror(errno));
		exit(1);
	}
	return fd;
}

static void run(struct server *server)
{
	for (;;) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(server->epoll, events, EVENTS, serve_slow(server));

		for (int i = 0; i < n; i++) {
			if (events[i].data.ptr == &server->tcp)
				take_connections(server);
			else if (events[i].data.ptr == &server->udp)
				answer_datagrams(server);
			else
				serve(server, events[i].data.ptr, true);
		}
	}
}

int main(int argc, char **argv)
{
	const char *address = NULL;
	struct server server = { 0 };
	int option;

	while ((option = getopt(argc, argv, "a:d:")) != -1) {
		if (option == 'a')
			address = optarg;
		else if (option == 'd')
			server.down_file = optarg;
		else
			optind = argc;
	}
	long port = argc - optind == 2 ? strtol(argv[optind + 1], NULL, 10) : 0;
	if (port < 1 || port > UINT16_MAX || strlen(argv[optind]) > 64) {
		fprintf(stderr, "Usage: lab-serve NAME PORT [-a ADDR] [-d DOWNFILE]\n");
		return 2;
	}
	server.name = argv[optind];
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, on_signal);
	memset(filler, '.', sizeof(filler));
	server.tcp = open_socket(SOCK_STREAM, address, (uint16_t)port);
	server.udp = open_socket(SOCK_DGRAM, address, (uint16_t)port);
	server.epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(&server, server.tcp, EPOLLIN, &server.tcp, EPOLL_CTL_ADD);
	watch(&server, server.udp, EPOLLIN, &server.udp, EPOLL_CTL_ADD);
	printf("%s: listening on port %ld\n", server.name, port);
	fflush(stdout);
	run(&server);
}
