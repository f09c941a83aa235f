// SPDX-License-Identifier: Apache-2.0
// A client that counts every request: how many were answered, by whom, and why the others were not. One JSON object on
// stdout at the end; exit code 0 when all were answered, 1 when not, 2 for a wrong command line.
//
// One process, one epoll, one look at the clock a turn. A request is a connection of its own (with -k they follow one
// another on -c connections) or, with -u, a datagram from a socket of its own. SIGTERM and SIGINT end it: no new
// requests, those under way are finished and counted.
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
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

#define CONCURRENCY_MAX 4096
#define HEAD_MAX 4096
#define NAMES_MAX 256
#define EVENTS 256
// while waiting for the first answer: one more try every 5 ms, given up after 100
#define TRY_EVERY_NS 5000000
#define TRY_TIMEOUT_NS 100000000
#define TRIES 20

struct tally {
	size_t used;
	struct {
		char name[72];
		uint64_t count;
	} rows[NAMES_MAX];
};

struct request {
	int fd; // -1: none
	bool active, connected, in_body;
	int64_t begun_ns, deadline_ns;
	size_t sent; // of the question
	uint64_t body_sent;
	char head[HEAD_MAX + 1];
	size_t head_len;
	uint64_t body_left;
	int error; // of sending
	int status;
	bool closes; // the server will close
	char server[72];
};

struct load {
	struct sockaddr_storage to, from;
	socklen_t to_len, from_len;
	uint64_t count_max, least;
	int64_t time_ns, timeout_ns, interval_ns, wait_ns;
	size_t concurrency;
	bool udp, keep;
	uint64_t body; // bytes that go with every request
	char question[1024];
	size_t question_len;

	int epoll;
	struct request *requests;
	size_t busy, cursor;
	int64_t now_ns, start_ns, next_ns;
	bool counting, stop;

	uint64_t begun, ok, failed, bytes;
	int64_t max_ns, first_ok_ns;
	int64_t first_failed_ns, last_failed_ns; // when the first and the last of them were begun
	struct tally reasons, servers;
};

static volatile sig_atomic_t stop_signal;
static char filler[65536], sink[65536];

static void on_signal(int number)
{
	stop_signal = number;
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void count(struct tally *tally, const char *name)
{
	size_t i = 0;

	while (i < tally->used && strcmp(tally->rows[i].name, name) != 0)
		i++;
	if (i == tally->used) {
		if (i == NAMES_MAX)
			i--; // the last row stands for the rest
		else
			tally->used++;
		snprintf(tally->rows[i].name, sizeof(tally->rows[i].name), "%s", name);
	}
	tally->rows[i].count++;
}

// --- one request, from begin to finish ---

static const char *reason_of(int error)
{
	static char other[80];

	switch (error) {
	case ECONNREFUSED:
		return "refused";
	case ECONNRESET:
	case EPIPE:
		return "reset";
	case EHOSTUNREACH:
	case ENETUNREACH:
		return "unreachable";
	case ETIMEDOUT:
		return "timeout-connect";
	default:
		snprintf(other, sizeof(other), "%.64s", strerror(error));
		return other;
	}
}

static void drop(struct request *r)
{
	if (r->fd >= 0)
		close(r->fd);
	r->fd = -1;
}

// reason NULL: it was answered.
static void finish(struct load *load, struct request *r, const char *reason)
{
	r->active = false;
	load->busy--;
	if (reason || r->closes || !load->keep)
		drop(r);
	if (!reason && load->first_ok_ns < 0)
		load->first_ok_ns = load->now_ns - load->start_ns;
	if (!load->counting)
		return;
	if (load->now_ns - r->begun_ns > load->max_ns)
		load->max_ns = load->now_ns - r->begun_ns;
	if (reason) {
		if (!load->failed++ || r->begun_ns < load->first_failed_ns)
			load->first_failed_ns = r->begun_ns;
		load->last_failed_ns = r->begun_ns > load->last_failed_ns ? r->begun_ns : load->last_failed_ns;
		count(&load->reasons, reason);
	} else {
		load->ok++;
		count(&load->servers, *r->server ? r->server : "?");
	}
}

static int open_socket(struct load *load, struct request *r)
{
	const int type = load->udp ? SOCK_DGRAM : SOCK_STREAM;
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = r };

	r->connected = false;
	r->fd = socket(load->to.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (r->fd < 0)
		return errno;
	if (load->from_len && bind(r->fd, (struct sockaddr *)&load->from, load->from_len))
		return errno;
	if (connect(r->fd, (struct sockaddr *)&load->to, load->to_len) && errno != EINPROGRESS)
		return errno;
	return epoll_ctl(load->epoll, EPOLL_CTL_ADD, r->fd, &event) ? errno : 0;
}

// What is left of the question. Returns 0, EAGAIN or another errno.
static int send_question(struct load *load, struct request *r)
{
	while (r->sent < load->question_len || r->body_sent < load->body) {
		const bool head = r->sent < load->question_len;
		const uint64_t left = head ? load->question_len - r->sent : load->body - r->body_sent;
		ssize_t n = send(r->fd, head ? load->question + r->sent : filler,
			left < sizeof(filler) ? (size_t)left : sizeof(filler), MSG_NOSIGNAL);

		if (n < 0)
			return errno;
		r->connected = true;
		if (head)
			r->sent += (size_t)n;
		else
			r->body_sent += (uint64_t)n;
	}
	return 0;
}

static void begin(struct load *load, struct request *r)
{
	const bool fresh = r->fd < 0;

	r->active = true;
	load->busy++;
	if (load->counting)
		load->begun++;
	r->begun_ns = load->now_ns;
	r->deadline_ns = load->now_ns +
		(load->counting || load->timeout_ns < TRY_TIMEOUT_NS ? load->timeout_ns : TRY_TIMEOUT_NS);
	r->sent = r->head_len = 0;
	r->body_sent = r->body_left = 0;
	r->in_body = r->closes = false;
	r->error = 0;
	r->server[0] = '\0';
	int error = fresh ? open_socket(load, r) : send_question(load, r);
	if (error && error != EAGAIN)
		finish(load, r, reason_of(error));
}

static void copy_value(const char *head, const char *name, char *buf, size_t size)
{
	buf[0] = '\0';
	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
		line += 2;
		if (strncasecmp(line, name, strlen(name)) != 0)
			continue;
		line += strlen(name);
		line += strspn(line, " \t");
		snprintf(buf, size, "%.*s", (int)strcspn(line, "\r\n"), line);
		return;
	}
}

// Looks for the end of the answer's head. NULL, or why the answer is none.
static const char *read_head(struct load *load, struct request *r)
{
	char value[72];

	r->head[r->head_len] = '\0';
	char *end = strstr(r->head, "\r\n\r\n");
	if (!end)
		return r->head_len == HEAD_MAX ? "not-http" : NULL;
	if (sscanf(r->head, "HTTP/1.%*c %d", &r->status) != 1)
		return "not-http";
	end[2] = '\0';
	copy_value(r->head, "X-Server:", r->server, sizeof(r->server));
	copy_value(r->head, "Connection:", value, sizeof(value));
	r->closes = strcasecmp(value, "close") == 0;
	copy_value(r->head, "Content-Length:", value, sizeof(value));
	if (!*value)
		return "no-length";
	const uint64_t here = r->head_len - (size_t)(end + 4 - r->head);
	r->body_left = strtoull(value, NULL, 10);
	r->in_body = true;
	load->bytes += here;
	r->body_left = here < r->body_left ? r->body_left - here : 0;
	return NULL;
}

static void end_http(struct load *load, struct request *r)
{
	char reason[32];

	snprintf(reason, sizeof(reason), "http-%d", r->status);
	finish(load, r, r->status / 100 == 2 ? NULL : reason);
}

static void receive_http(struct load *load, struct request *r)
{
	while (r->active) {
		ssize_t n = r->in_body ? recv(r->fd, sink, sizeof(sink), 0)
				       : recv(r->fd, r->head + r->head_len, HEAD_MAX - r->head_len, 0);

		if (n < 0 && (errno == EAGAIN || errno == EINTR) && !r->error)
			return;
		if (n <= 0) {
			finish(load, r, r->error ? reason_of(r->error) : n ? reason_of(errno) : "eof");
			return;
		}
		if (r->in_body) {
			load->bytes += (uint64_t)n;
			r->body_left -= (uint64_t)n < r->body_left ? (uint64_t)n : r->body_left;
		} else {
			r->head_len += (size_t)n;
			const char *wrong = read_head(load, r);
			if (wrong) {
				finish(load, r, wrong);
				return;
			}
		}
		if (r->in_body && !r->body_left)
			end_http(load, r);
	}
}

static void receive_datagram(struct load *load, struct request *r)
{
	ssize_t n = recv(r->fd, r->server, sizeof(r->server) - 1, 0);

	if (n < 0) {
		if (errno != EAGAIN || r->error)
			finish(load, r, reason_of(r->error ? r->error : errno));
		return;
	}
	r->server[n] = '\0';
	r->server[strcspn(r->server, "\r\n")] = '\0';
	load->bytes += (uint64_t)n;
	finish(load, r, NULL);
}

static void on_event(struct load *load, struct request *r, uint32_t events)
{
	if (!r->active) {
		// kept open between two requests: the next one finds out
		return;
	}
	if (r->sent < load->question_len || r->body_sent < load->body) {
		int error = send_question(load, r);

		// a server may answer and hang up before it has read everything: what it said counts
		if (error && error != EAGAIN) {
			r->error = error;
			events |= EPOLLIN;
		}
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (load->udp)
		receive_datagram(load, r);
	else
		receive_http(load, r);
}

// --- the loop ---

static void begin_due(struct load *load)
{
	const size_t room = load->counting ? load->concurrency : TRIES;

	for (size_t i = 0; i < room && load->busy < room && load->next_ns <= load->now_ns && !load->stop; i++) {
		// one after the other, so that with -k every connection has its turn
		struct request *r = &load->requests[load->cursor++ % room];

		if (r->active)
			continue;
		if (load->counting && load->count_max && load->begun >= load->count_max) {
			load->stop = true;
			break;
		}
		load->next_ns += load->counting ? load->interval_ns : TRY_EVERY_NS;
		// with a rate, what could not be begun in time is not made up for with a burst
		if (load->next_ns < load->now_ns - 1000000000)
			load->next_ns = load->now_ns;
		begin(load, r);
	}
}

// Gives up what is overdue. Returns when the loop must wake up.
static int64_t expire(struct load *load)
{
	int64_t wake_ns = INT64_MAX;

	for (size_t i = 0, left = load->busy; left && i < load->concurrency; i++) {
		struct request *r = &load->requests[i];

		if (!r->active)
			continue;
		left--;
		if (r->deadline_ns <= load->now_ns)
			finish(load, r, r->connected ? "timeout" : "timeout-connect");
		else if (r->deadline_ns < wake_ns)
			wake_ns = r->deadline_ns;
	}
	return wake_ns;
}

static void forget_all(struct load *load)
{
	for (size_t i = 0; i < load->concurrency; i++) {
		load->requests[i].active = false;
		drop(&load->requests[i]);
	}
	load->busy = 0;
}

// Runs until everything is done, or (first) until the first answer. end_ns: nothing is begun after it.
static void run(struct load *load, int64_t end_ns, bool first)
{
	for (;;) {
		struct epoll_event events[EVENTS];
		int64_t wake_ns = expire(load);

		if ((stop_signal && load->begun >= load->least) || load->now_ns >= end_ns)
			load->stop = true;
		begin_due(load);
		if ((load->stop && !load->busy) || (first && (load->stop || load->first_ok_ns >= 0)))
			return;
		if (load->busy < load->concurrency && !load->stop && load->next_ns < wake_ns)
			wake_ns = load->next_ns;
		if (!load->stop && end_ns < wake_ns)
			wake_ns = end_ns;
		int64_t sleep_ms = wake_ns <= load->now_ns ? 0 : (wake_ns - load->now_ns + 999999) / 1000000;
		// what was begun just now is not in wake_ns yet
		int64_t most_ms = (first ? TRY_TIMEOUT_NS : load->timeout_ns) / 1000000;
		int n = epoll_wait(load->epoll, events, EVENTS, (int)(sleep_ms < most_ms ? sleep_ms : most_ms));

		load->now_ns = now_ns();
		for (int i = 0; i < n; i++)
			on_event(load, events[i].data.ptr, events[i].events);
	}
}

static void print_tally(const char *name, const struct tally *tally)
{
	printf("\"%s\": {", name);
	for (size_t i = 0; i < tally->used; i++) {
		printf("%s\"", i ? ", " : "");
		for (const char *p = tally->rows[i].name; *p; p++)
			putchar((unsigned char)*p < 0x20 || (unsigned char)*p > 0x7e || *p == '"' || *p == '\\' ? '?'
														: *p);
		printf("\": %llu", (unsigned long long)tally->rows[i].count);
	}
	printf("}, ");
}

// As other programs of this host tell the time.
static double wall_ms(int64_t ns)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6 - (double)(now_ns() - ns) / 1e6;
}

static void report(const struct load *load)
{
	printf("{\"requests\": %llu, \"ok\": %llu, \"failed\": %llu, ", (unsigned long long)load->begun,
		(unsigned long long)load->ok, (unsigned long long)load->failed);
	print_tally("reasons", &load->reasons);
	print_tally("servers", &load->servers);
	printf("\"bytes\": %llu, \"max_ms\": %.1f, \"first_ok_ms\": ", (unsigned long long)load->bytes,
		(double)load->max_ns / 1e6);
	if (load->first_ok_ns < 0)
		printf("null, ");
	else
		printf("%.1f, ", (double)load->first_ok_ns / 1e6);
	printf("\"failed_begun_ms\": ");
	if (load->failed)
		printf("[%.0f, %.0f]}\n", wall_ms(load->first_failed_ns), wall_ms(load->last_failed_ns));
	else
		printf("null}\n");
}

// --- command line ---

static void usage(void)
{
	fprintf(stderr,
		"Usage: lab-load [OPTIONS] ADDR PORT\n"
		"  -n N      so many requests (default 1, without -t)\n"
		"  -t SEC    for so long\n"
		"  -l N      a signal does not end it before so many requests are begun\n"
		"  -c N      at most so many at once (default 1)\n"
		"  -T MS     a request fails after so long (default 1000)\n"
		"  -r RATE   requests a second, at most\n"
		"  -w SEC    first wait, up to so long, until a request is answered; nothing is counted before\n"
		"  -u        datagrams\n"
		"  -k        keep connections\n"
		"  -p PATH   what to ask for (default /)\n"
		"  -b BYTES  send a body of so many bytes with every request\n"
		"  -s ADDR   from this address\n");
	exit(2);
}

static double number(const char *text, double least, double most)
{
	char *end;
	double value = strtod(text, &end);

	if (end == text || *end || !(value >= least && value <= most))
		usage();
	return value;
}

static socklen_t read_address(const char *text, uint16_t port, struct sockaddr_storage *sa)
{
	struct sockaddr_in *four = (struct sockaddr_in *)(void *)sa;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)sa;

	if (inet_pton(AF_INET, text, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		return sizeof(*four);
	}
	if (inet_pton(AF_INET6, text, &six->sin6_addr) != 1)
		usage();
	six->sin6_family = AF_INET6;
	six->sin6_port = htons(port);
	return sizeof(*six);
}

static void read_options(struct load *load, int argc, char **argv)
{
	const char *path = "/", *from = NULL;
	int option;

	while ((option = getopt(argc, argv, "n:t:l:c:T:r:w:ukp:b:s:")) != -1) {
		switch (option) {
		case 'n':
			load->count_max = (uint64_t)number(optarg, 1, 1e12);
			break;
		case 't':
			load->time_ns = (int64_t)(number(optarg, 0.001, 1e6) * 1e9);
			break;
		case 'l':
			load->least = (uint64_t)number(optarg, 1, 1e12);
			break;
		case 'c':
			load->concurrency = (size_t)number(optarg, 1, CONCURRENCY_MAX);
			break;
		case 'T':
			load->timeout_ns = (int64_t)(number(optarg, 1, 1e6) * 1e6);
			break;
		case 'r':
			load->interval_ns = (int64_t)(1e9 / number(optarg, 0.001, 1e6));
			break;
		case 'w':
			load->wait_ns = (int64_t)(number(optarg, 0.001, 1e6) * 1e9);
			break;
		case 'u':
			load->udp = true;
			break;
		case 'k':
			load->keep = true;
			break;
		case 'p':
			path = optarg;
			break;
		case 'b':
			load->body = (uint64_t)number(optarg, 0, 1e12);
			break;
		case 's':
			from = optarg;
			break;
		default:
			usage();
		}
	}
	if (argc - optind != 2 || (load->udp && load->body))
		usage();
	if (!load->count_max && !load->time_ns)
		load->count_max = 1;
	load->to_len = read_address(argv[optind], (uint16_t)number(argv[optind + 1], 1, 65535), &load->to);
	if (from)
		load->from_len = read_address(from, 0, &load->from);
	int n = load->udp ? snprintf(load->question, sizeof(load->question), "who?\n")
			  : snprintf(load->question, sizeof(load->question),
				    "%s %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %llu\r\n\r\n",
				    load->body ? "POST" : "GET", path, argv[optind],
				    load->keep ? "" : "Connection: close\r\n", (unsigned long long)load->body);
	if ((size_t)n >= sizeof(load->question))
		usage();
	load->question_len = (size_t)n;
}

int main(int argc, char **argv)
{
	static struct load load = { .concurrency = 1, .timeout_ns = 1000000000, .first_ok_ns = -1 };
	struct sigaction action = { .sa_handler = on_signal }; // no SA_RESTART: epoll_wait returns

	read_options(&load, argc, argv);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	const size_t concurrency = load.concurrency, slots = concurrency < TRIES ? TRIES : concurrency;
	load.requests = calloc(slots, sizeof(*load.requests));
	load.epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!load.requests || load.epoll < 0) {
		perror("lab-load");
		return 1;
	}
	for (size_t i = 0; i < slots; i++)
		load.requests[i].fd = -1;
	memset(filler, '.', sizeof(filler));
	load.start_ns = load.next_ns = load.now_ns = now_ns();
	if (load.wait_ns) {
		load.concurrency = slots;
		run(&load, load.start_ns + load.wait_ns, true);
		forget_all(&load);
		load.concurrency = concurrency;
		load.bytes = 0;
	}
	if (!load.wait_ns || load.first_ok_ns >= 0) {
		load.counting = true;
		load.stop = false;
		load.now_ns = load.next_ns = now_ns();
		run(&load, load.time_ns ? load.now_ns + load.time_ns : INT64_MAX, false);
	}
	report(&load);
	return load.ok && !load.failed ? 0 : 1;
}
