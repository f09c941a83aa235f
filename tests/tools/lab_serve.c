// SPDX-License-Identifier: Apache-2.0
/*
 * lab-serve: a real server for the lab that says who it is, over HTTP and, on the same port, over UDP.
 *
 *   GET /          NAME            GET /bytes/N   N bytes
 *   GET /health    NAME, or 503    GET /slow/MS   NAME, after MS milliseconds
 *   POST anything  NAME, once the body is read (X-Received: its size)
 *
 * A datagram is answered with NAME, from the address it was sent to. Prints one line when it listens. Ends on SIGTERM
 * or SIGINT.
 */
#include "lab_net.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { HEAD_MAX = 8192 };

struct conn {
	int fd;
	struct conn *prev, *next;
	size_t head_len;    // bytes in head
	uint64_t body_left; // of the request, still to be read
	uint64_t body_size;
	uint64_t answer_left; // bytes of filler still to be sent
	size_t out_len, out_sent;
	int64_t answer_at; // when a slow answer is due; 0: at once
	bool busy;         // a request is being answered
	bool close;        // after this answer
	bool wants_out;
	char peer[INET6_ADDRSTRLEN];
	char head[HEAD_MAX + 1];
	char out[512];
};

struct server {
	const char *name, *down_file;
	bool quiet;
	int epoll, listener, udp, signals;
	struct conn *conns;
	uint64_t requests, datagrams;
};

static char filler[65536];

static void watch(struct server *s, int op, int fd, void *ptr, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = ptr };

	if (epoll_ctl(s->epoll, op, fd, &event))
		perror("lab-serve: epoll_ctl");
}

static void conn_free(struct server *s, struct conn *c)
{
	close(c->fd);
	if (c->prev)
		c->prev->next = c->next;
	else
		s->conns = c->next;
	if (c->next)
		c->next->prev = c->prev;
	free(c);
}

static void answer(struct server *s, struct conn *c, const char *status, uint64_t bytes)
{
	const char *closing = c->close ? "Connection: close\r\n" : "";
	int n;

	if (bytes)
		n = snprintf(c->out, sizeof(c->out),
			"HTTP/1.1 %s\r\nX-Server: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: "
			"%llu\r\n%s\r\n",
			status, s->name, (unsigned long long)bytes, closing);
	else
		n = snprintf(c->out, sizeof(c->out),
			"HTTP/1.1 %s\r\nX-Server: %s\r\nX-Received: %llu\r\nContent-Type: "
			"text/plain\r\nContent-Length: %zu\r\n%s\r\n%s\n",
			status, s->name, (unsigned long long)c->body_size, strlen(s->name) + 1, closing, s->name);
	c->out_len = (size_t)n;
	c->out_sent = 0;
	c->answer_left = bytes;
}

// Reads the request in head (complete, NUL-terminated) and prepares the answer.
static void understand(struct server *s, struct conn *c)
{
	char method[16] = "", path[256] = "", version[16] = "";
	const char *length = header_value(c->head, "Content-Length");
	const char *connection = header_value(c->head, "Connection");
	const char *expect = header_value(c->head, "Expect");
	unsigned long long arg;

	s->requests++;
	c->busy = true;
	sscanf(c->head, "%15s %255s %15s", method, path, version);
	c->body_size = c->body_left = length ? strtoull(length, NULL, 10) : 0;
	c->close = !strcmp(version, "HTTP/1.0") || (connection && !strncasecmp(connection, "close", 5));
	c->answer_at = 0;
	if (!s->quiet)
		printf("%s %s %s\n", c->peer, method, path);
	if (expect && c->body_left)
		send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);

	if (!strcmp(path, "/") || !strcmp(method, "POST")) {
		answer(s, c, "200 OK", 0);
	} else if (!strcmp(path, "/health")) {
		answer(s, c, s->down_file && !access(s->down_file, F_OK) ? "503 Service Unavailable" : "200 OK", 0);
	} else if (sscanf(path, "/bytes/%llu", &arg) == 1) {
		answer(s, c, "200 OK", arg);
	} else if (sscanf(path, "/slow/%llu", &arg) == 1) {
		answer(s, c, "200 OK", 0);
		c->answer_at = now_ns() + (int64_t)arg * MSEC;
	} else {
		answer(s, c, "404 Not Found", 0);
	}
}

// Sends what can be sent. False: the connection is over.
static bool push(struct server *s, struct conn *c)
{
	while (c->out_sent < c->out_len || c->answer_left) {
		bool head = c->out_sent < c->out_len;
		const char *from = head ? c->out + c->out_sent : filler;
		size_t size = head                        ? c->out_len - c->out_sent
			: c->answer_left < sizeof(filler) ? (size_t)c->answer_left
							  : sizeof(filler);
		ssize_t n =
			send(c->fd, from, size, MSG_NOSIGNAL | MSG_DONTWAIT | (head && c->answer_left ? MSG_MORE : 0));

		if (n < 0 && errno == EAGAIN) {
			if (!c->wants_out)
				watch(s, EPOLL_CTL_MOD, c->fd, c, EPOLLIN | EPOLLOUT);
			c->wants_out = true;
			return true;
		}
		if (n < 0)
			return false;
		if (head)
			c->out_sent += (size_t)n;
		else
			c->answer_left -= (uint64_t)n;
	}
	if (c->wants_out)
		watch(s, EPOLL_CTL_MOD, c->fd, c, EPOLLIN);
	c->wants_out = false;
	c->busy = false;
	if (c->close)
		shutdown(c->fd, SHUT_WR);
	return true;
}

// Moves the connection on with what is in head. False: it is over.
static bool advance(struct server *s, struct conn *c)
{
	for (;;) {
		char *end;
		size_t size;

		if (c->busy && c->body_left) {
			size = c->head_len < c->body_left ? c->head_len : (size_t)c->body_left;
			c->body_left -= size;
			memmove(c->head, c->head + size, c->head_len - size);
			c->head_len -= size;
			if (c->body_left)
				return true;
		}
		if (c->busy) {
			if (c->answer_at)
				return true; // the loop will come back
			if (!push(s, c))
				return false;
			if (c->busy)
				return true;
		}
		c->head[c->head_len] = 0;
		end = strstr(c->head, "\r\n\r\n");
		if (!end)
			return c->head_len < HEAD_MAX;
		end[2] = 0;
		understand(s, c);
		size = (size_t)(end + 4 - c->head);
		memmove(c->head, c->head + size, c->head_len - size);
		c->head_len -= size;
	}
}

static void on_readable(struct server *s, struct conn *c)
{
	for (;;) {
		ssize_t n;

		if (c->head_len == HEAD_MAX) // pipelined beyond reason
			break;
		n = recv(c->fd, c->head + c->head_len, HEAD_MAX - c->head_len, MSG_DONTWAIT);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0)
			break;
		c->head_len += (size_t)n;
		if (!advance(s, c))
			break;
	}
	conn_free(s, c);
}

static void on_connection(struct server *s)
{
	struct sockaddr_in6 peer;
	socklen_t len = sizeof(peer);
	int fd = accept4(s->listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *c;

	if (fd < 0)
		return;
	c = calloc(1, sizeof(*c));
	if (!c) {
		close(fd);
		return;
	}
	c->fd = fd;
	if (!s->quiet)
		inet_ntop(peer.sin6_family,
			peer.sin6_family == AF_INET6 ? (void *)&peer.sin6_addr
						     : (void *)&((struct sockaddr_in *)&peer)->sin_addr,
			c->peer, sizeof(c->peer));
	c->next = s->conns;
	if (c->next)
		c->next->prev = c;
	s->conns = c;
	watch(s, EPOLL_CTL_ADD, fd, c, EPOLLIN);
	on_readable(s, c); // often the request is there already
}

// The answer goes out with the control data that came in, and so from the address that was asked.
static void on_datagram(struct server *s)
{
	char data[2048], control[256];
	struct sockaddr_storage peer;
	struct iovec iov = { data, sizeof(data) };
	struct msghdr msg = { &peer, sizeof(peer), &iov, 1, control, sizeof(control), 0 };

	if (recvmsg(s->udp, &msg, MSG_DONTWAIT) < 0)
		return;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_ifindex = 0;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA(c);

			info->ipi_spec_dst = info->ipi_addr;
			info->ipi_ifindex = 0;
		}
	}
	iov.iov_len = (size_t)snprintf(data, sizeof(data), "%s\n", s->name);
	msg.msg_flags = 0;
	if (sendmsg(s->udp, &msg, 0) < 0)
		perror("lab-serve: sendmsg");
	s->datagrams++;
}

// Sends the slow answers that are due; returns the milliseconds until the next one, -1 if none waits.
static int slow_answers(struct server *s)
{
	int64_t now = 0, next = 0;

	for (struct conn *c = s->conns, *following; c; c = following) {
		following = c->next;
		if (!c->busy || !c->answer_at)
			continue;
		if (!now)
			now = now_ns();
		if (c->answer_at > now) {
			next = !next || c->answer_at < next ? c->answer_at : next;
			continue;
		}
		c->answer_at = 0;
		if (!advance(s, c))
			conn_free(s, c);
	}
	return next ? (int)((next - now) / MSEC) + 1 : -1;
}

static int bound_socket(const struct endpoint *e, int type)
{
	const int on = 1, off = 0;
	int fd = socket(e->addr.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (e->addr.ss_family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof(on));
	} else {
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof(on));
	}
	if (bind(fd, (const struct sockaddr *)&e->addr, e->len) || (type == SOCK_STREAM && listen(fd, 1024))) {
		perror("lab-serve: bind");
		exit(1);
	}
	return fd;
}

static void loop(struct server *s)
{
	for (;;) {
		struct epoll_event events[64];
		int n = epoll_wait(s->epoll, events, 64, slow_answers(s));

		for (int i = 0; i < n; i++) {
			void *ptr = events[i].data.ptr;

			if (ptr == &s->signals)
				return;
			if (ptr == &s->listener)
				on_connection(s);
			else if (ptr == &s->udp)
				on_datagram(s);
			else if (events[i].events & EPOLLOUT && !advance(s, ptr))
				conn_free(s, ptr);
			else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				on_readable(s, ptr);
		}
	}
}

int main(int argc, char **argv)
{
	struct server s = { 0 };
	struct endpoint e;
	const char *address = "::";
	sigset_t stop;
	unsigned port;
	int option;

	while ((option = getopt(argc, argv, "a:d:q")) != -1) {
		switch (option) {
		case 'a':
			address = optarg;
			break;
		case 'd':
			s.down_file = optarg;
			break;
		case 'q':
			s.quiet = true;
			break;
		default:
			optind = argc;
		}
	}
	if (argc - optind != 2) {
		fprintf(stderr,
			"usage: lab-serve [-q] [-a ADDRESS] [-d FILE] NAME PORT\n"
			"  -a  listen on this address only    -d  /health answers 503 while FILE exists    -q  do not "
			"list requests\n");
		return 2;
	}
	s.name = argv[optind];
	port = (unsigned)number("PORT", argv[optind + 1], 1, 65535);
	if (strlen(s.name) > 64 || !endpoint_parse(&e, address, port)) {
		fprintf(stderr, "lab-serve: a name of up to 64 characters and a numeric address, please\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	memset(filler, 'x', sizeof(filler));
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);

	s.epoll = epoll_create1(EPOLL_CLOEXEC);
	s.signals = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	s.listener = bound_socket(&e, SOCK_STREAM);
	s.udp = bound_socket(&e, SOCK_DGRAM);
	watch(&s, EPOLL_CTL_ADD, s.signals, &s.signals, EPOLLIN);
	watch(&s, EPOLL_CTL_ADD, s.listener, &s.listener, EPOLLIN);
	watch(&s, EPOLL_CTL_ADD, s.udp, &s.udp, EPOLLIN);
	printf("%s listening on port %u\n", s.name, port);
	loop(&s);
	printf("%s answered %llu requests and %llu datagrams\n", s.name, (unsigned long long)s.requests,
		(unsigned long long)s.datagrams);
	return 0;
}
