// SPDX-License-Identifier: Apache-2.0
// What checks of health are measured with.
//
// bench-health serve tcp|http PORT INTERVAL_MS: real servers, as many as are asked for, on every address of loopback.
// Each answers "GET" with 200. It notes when each address got a SYN, by the kernel's time of the packet, and not when
// this process came to look. SIGUSR1 forgets what was noted; SIGUSR2 prints how many addresses were noted, SIGTERM, as
// JSON, what has come and how far the gaps between two checks of one address are from the interval.
//
// bench-health tcp|http PORT INTERVAL_MS COUNT SECONDS: the least that a program can do for COUNT checks an interval,
// evenly: connect without waiting, epoll, SO_ERROR, (http: a GET and its answer), close with a reset. Prints the checks
// that passed and failed. What more a health check costs is what it does besides: timers, judgement, reasons.
//
// For tcp the listener defers accept(2) until there are data, and so has nothing to do for a connection that is reset:
// the machine's time goes to who checks.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BASE 0x7f010001u // 127.1.0.1, the first address that is checked
#define COUNT_MAX 60000
#define GAPS_MAX 4000000
#define LOOK_MS 20 // between two looks at the packets
#define FRAME 256
#define FRAMES 16384
#define EVENTS 512

static void fail(const char *what)
{
	fprintf(stderr, "bench-health: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct sockaddr_in address(uint32_t host, uint16_t port)
{
	return (struct sockaddr_in) { .sin_family = AF_INET, .sin_addr.s_addr = htonl(host), .sin_port = htons(port) };
}

// --- serve: packets ---

struct watch {
	int fd;
	char *ring;
	size_t next;
	uint64_t seen;
	int64_t interval_ns, first_ns, last_ns;
	int64_t *last_of; // by address
	int64_t *off;     // of gaps, without sign
	size_t gaps;
};

static void watch_open(struct watch *watch, uint16_t port)
{
	// TCP to the port, SYN without ACK; a socket for one protocol is shown each packet of loopback once
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, ETH_HLEN + 9),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, IPPROTO_TCP, 0, 7),
		BPF_STMT(BPF_LDX | BPF_B | BPF_MSH, ETH_HLEN),
		BPF_STMT(BPF_LD | BPF_H | BPF_IND, ETH_HLEN + 2),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, port, 0, 4),
		BPF_STMT(BPF_LD | BPF_B | BPF_IND, ETH_HLEN + 13),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x12),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x02, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 64),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog filter = { .len = sizeof(code) / sizeof(*code), .filter = code };
	const struct tpacket_req ring = {
		.tp_block_size = 65536,
		.tp_block_nr = FRAMES * FRAME / 65536,
		.tp_frame_size = FRAME,
		.tp_frame_nr = FRAMES,
	};
	int version = TPACKET_V2;

	watch->fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_IP));
	if (watch->fd < 0 || setsockopt(watch->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)) ||
		setsockopt(watch->fd, SOL_PACKET, PACKET_VERSION, &version, sizeof(version)) ||
		setsockopt(watch->fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof(ring)))
		fail("packet socket");
	watch->ring = mmap(NULL, FRAMES * FRAME, PROT_READ | PROT_WRITE, MAP_SHARED, watch->fd, 0);
	watch->last_of = calloc(COUNT_MAX, sizeof(*watch->last_of));
	watch->off = malloc(GAPS_MAX * sizeof(*watch->off));
	if (watch->ring == MAP_FAILED || !watch->last_of || !watch->off)
		fail("memory");
}

static void note(struct watch *watch, uint32_t to, int64_t at_ns)
{
	const uint32_t n = to - BASE;

	if (n >= COUNT_MAX)
		return;
	watch->seen++;
	watch->first_ns = watch->first_ns ? watch->first_ns : at_ns;
	watch->last_ns = at_ns;
	if (watch->last_of[n] && watch->gaps < GAPS_MAX)
		watch->off[watch->gaps++] = llabs(at_ns - watch->last_of[n] - watch->interval_ns);
	watch->last_of[n] = at_ns;
}

static void watch_look(struct watch *watch)
{
	for (;; watch->next = (watch->next + 1) % FRAMES) {
		struct tpacket2_hdr *frame = (struct tpacket2_hdr *)(void *)(watch->ring + watch->next * FRAME);
		uint32_t to;

		if (!(__atomic_load_n(&frame->tp_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			return;
		memcpy(&to, (char *)frame + frame->tp_net + 16, sizeof(to));
		note(watch, ntohl(to), (int64_t)frame->tp_sec * 1000000000 + frame->tp_nsec);
		__atomic_store_n(&frame->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
	}
}

static void watch_forget(struct watch *watch)
{
	watch->seen = watch->gaps = 0;
	watch->first_ns = 0;
	memset(watch->last_of, 0, COUNT_MAX * sizeof(*watch->last_of));
}

static int compare(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static size_t addresses(const struct watch *watch)
{
	size_t n = 0;

	for (size_t i = 0; i < COUNT_MAX; i++)
		n += watch->last_of[i] != 0;
	return n;
}

static void watch_print(struct watch *watch)
{
	struct tpacket_stats lost = { 0 };
	socklen_t len = sizeof(lost);

	getsockopt(watch->fd, SOL_PACKET, PACKET_STATISTICS, &lost, &len);
	qsort(watch->off, watch->gaps, sizeof(*watch->off), compare);
	printf("{\"checks\": %llu, \"backends\": %zu, \"seconds\": %.3f, \"gaps\": %zu, \"lost\": %u",
		(unsigned long long)watch->seen, addresses(watch), (double)(watch->last_ns - watch->first_ns) / 1e9,
		watch->gaps, lost.tp_drops);
	if (watch->gaps)
		printf(", \"off_median_ms\": %.3f, \"off_p99_ms\": %.3f, \"off_max_ms\": %.3f",
			(double)watch->off[watch->gaps / 2] / 1e6, (double)watch->off[watch->gaps * 99 / 100] / 1e6,
			(double)watch->off[watch->gaps - 1] / 1e6);
	printf("}\n");
}

// --- serve: connections ---

static int listen_on(uint16_t port, bool deferred)
{
	const struct sockaddr_in any = address(INADDR_ANY, port);
	int one = 1, seconds = 5, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
		(deferred && setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof(seconds))) ||
		bind(fd, (const struct sockaddr *)&any, sizeof(any)) || listen(fd, 65535))
		fail("listen");
	return fd;
}

static void watch_for_input(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
		fail("epoll");
}

static void accept_all(int epoll, int listener)
{
	int fd;

	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
		watch_for_input(epoll, fd);
}

static void answer(int fd)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";
	char question[2048];

	if (recv(fd, question, sizeof(question), 0) > 4 && memcmp(question, "GET ", 4) == 0)
		send(fd, ok, sizeof(ok) - 1, MSG_NOSIGNAL);
	close(fd);
}

static int serve(bool http, uint16_t port, int64_t interval_ms)
{
	struct watch watch = { .interval_ns = interval_ms * 1000000 };
	const int listener = listen_on(port, !http), epoll = epoll_create1(EPOLL_CLOEXEC);
	sigset_t signals;

	watch_open(&watch, port);
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGUSR1);
	sigaddset(&signals, SIGUSR2);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);

	watch_for_input(epoll, listener);
	watch_for_input(epoll, signal_fd);
	printf("listening\n");
	fflush(stdout);
	for (;;) {
		struct signalfd_siginfo said = { 0 };
		struct epoll_event events[EVENTS];
		const int n = epoll_wait(epoll, events, EVENTS, LOOK_MS);

		for (int i = 0; i < n; i++) {
			if (events[i].data.fd == listener)
				accept_all(epoll, listener);
			else if (events[i].data.fd != signal_fd)
				answer(events[i].data.fd);
		}
		watch_look(&watch);
		if (read(signal_fd, &said, sizeof(said)) != sizeof(said))
			continue;
		if (said.ssi_signo == SIGTERM)
			break;
		if (said.ssi_signo == SIGUSR1) {
			watch_forget(&watch);
		} else {
			printf("%zu\n", addresses(&watch));
			fflush(stdout);
		}
	}
	watch_print(&watch);
	return 0;
}

// --- the bare loop ---

struct loop {
	bool http;
	int epoll;
	uint64_t passed, failed;
};

static void end(struct loop *loop, int fd, bool passed)
{
	const struct linger reset = { .l_onoff = 1 };

	loop->passed += passed;
	loop->failed += !passed;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
}

static void begin(struct loop *loop, uint32_t host, uint16_t port)
{
	const struct sockaddr_in to = address(host, port);
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct epoll_event event = { .events = EPOLLOUT, .data.fd = fd };

	if (fd < 0)
		fail("socket");
	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS)
		end(loop, fd, false);
	else if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event))
		fail("epoll");
}

static void connected(struct loop *loop, int fd)
{
	static const char question[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n";
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error || !loop->http)
		end(loop, fd, !error);
	else if (send(fd, question, sizeof(question) - 1, MSG_NOSIGNAL) < 0 ||
		epoll_ctl(loop->epoll, EPOLL_CTL_MOD, fd, &event))
		end(loop, fd, false);
}

static void answered(struct loop *loop, int fd)
{
	char answer[2048];
	const ssize_t n = recv(fd, answer, sizeof(answer), 0);

	end(loop, fd, n > 12 && memcmp(answer, "HTTP/1.1 200", 12) == 0);
}

static int run(bool http, uint16_t port, int64_t interval_ms, int64_t count, int64_t seconds)
{
	struct loop loop = { .http = http, .epoll = epoll_create1(EPOLL_CLOEXEC) };
	const int64_t start = now_ns(), total = count * seconds * 1000 / interval_ms;

	for (int64_t begun = 0; begun < total || loop.passed + loop.failed < (uint64_t)total;) {
		struct epoll_event events[EVENTS];
		const int64_t elapsed_ms = (now_ns() - start) / 1000000;

		while (begun < total && begun * interval_ms / count <= elapsed_ms)
			begin(&loop, BASE + (uint32_t)(begun++ % count), port);
		const int64_t next_ms = begun < total ? begun * interval_ms / count : elapsed_ms + 1000;
		const int n = epoll_wait(loop.epoll, events, EVENTS, (int)(next_ms - elapsed_ms));
		for (int i = 0; i < n; i++) {
			if (events[i].events & EPOLLOUT)
				connected(&loop, events[i].data.fd);
			else
				answered(&loop, events[i].data.fd);
		}
	}
	printf("{\"passed\": %llu, \"failed\": %llu, \"seconds\": %.3f}\n", (unsigned long long)loop.passed,
		(unsigned long long)loop.failed, (double)(now_ns() - start) / 1e9);
	return 0;
}

int main(int argc, char **argv)
{
	const char *usage =
		"usage: bench-health serve tcp|http PORT INTERVAL_MS | tcp|http PORT INTERVAL_MS COUNT SECONDS\n";
	const bool serves = argc == 5 && strcmp(argv[1], "serve") == 0;
	char **const rest = serves ? argv + 2 : argv + 1;
	const bool http = argc > 2 && strcmp(rest[0], "http") == 0;

	if (!serves && argc != 6) {
		fputs(usage, stderr);
		return 2;
	}
	const long port = atol(rest[1]), interval = atol(rest[2]);
	const long count = serves ? 1 : atol(rest[3]), seconds = serves ? 1 : atol(rest[4]);

	if ((!http && strcmp(rest[0], "tcp") != 0) || port < 1 || port > 65535 || interval < 1 || count < 1 ||
		count > COUNT_MAX || seconds < 1) {
		fputs(usage, stderr);
		return 2;
	}
	return serves ? serve(http, (uint16_t)port, interval) : run(http, (uint16_t)port, interval, count, seconds);
}
