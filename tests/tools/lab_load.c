// SPDX-License-Identifier: Apache-2.0
/*
 * lab-load: a client that counts every request: who answered it, or why nobody did. One JSON object on stdout at the
 * end.
 *
 * A worker has one request at a time; by default each is a new connection. One clock reading serves a whole turn of the
 * loop, as the clock is dear in user-mode Linux; so latencies are those of the turn, good to about the time a turn
 * takes.
 */
#include "lab_net.h"
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { HEAD_MAX = 2048, SERVERS_MAX = 64, NAME_SIZE = 65 };

enum failure {
	FAIL_REFUSED,
	FAIL_RESET,
	FAIL_UNREACHABLE,
	FAIL_TIMEOUT,
	FAIL_SHORT,
	FAIL_STATUS,
	FAIL_OTHER,
	FAILURES
};
static const char *const failure_names[FAILURES] = {
	[FAIL_REFUSED] = "refused",
	[FAIL_RESET] = "reset",
	[FAIL_UNREACHABLE] = "unreachable",
	[FAIL_TIMEOUT] = "timeout",
	[FAIL_SHORT] = "short",
	[FAIL_STATUS] = "status",
	[FAIL_OTHER] = "other",
};

enum state { IDLE, CONNECTING, SENDING, RECEIVING };

struct worker {
	enum state state;
	int fd; // -1: none
	int64_t started_at, wait_until;
	size_t sent;
	size_t head_len;
	bool head_done, closes;
	int64_t body_left; // -1: until the connection ends
	int status;
	char name[NAME_SIZE];
	char head[HEAD_MAX + 1];
};

struct load {
	// what to do
	struct endpoint to;
	int64_t requests, duration_ns, timeout_ns, interval_ns, gap_ns;
	bool udp, keep;
	const char *stop_file;
	char *request; // sent as it is: head and body
	size_t request_len;
	// what is going on
	int epoll, signals;
	struct worker *workers;
	int worker_count;
	int64_t now, start, next_at, stop_looked_at;
	bool stopping, giving_up;
	// what was seen
	int64_t begun, ok, failed, reasons[FAILURES], bytes, first_ok, last_ok, max_gap, max_latency, sum_latency;
	struct {
		char name[NAME_SIZE];
		int64_t count;
	} servers[SERVERS_MAX];
	int server_count;
};

static char sink[65536];

static void hang_up(struct worker *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
}

static void note_gap(struct load *l)
{
	int64_t gap = l->now - (l->last_ok ? l->last_ok : l->start);

	if (gap > l->max_gap)
		l->max_gap = gap;
}

static void rest(struct load *l, struct worker *w)
{
	w->state = IDLE;
	w->wait_until = l->now + l->gap_ns;
}

static void fail(struct load *l, struct worker *w, enum failure why)
{
	l->failed++;
	l->reasons[why]++;
	hang_up(w);
	rest(l, w);
}

static enum failure failure_of(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return FAIL_REFUSED;
	case ECONNRESET:
	case EPIPE:
		return FAIL_RESET;
	case EHOSTUNREACH:
	case ENETUNREACH:
		return FAIL_UNREACHABLE;
	case ETIMEDOUT:
		return FAIL_TIMEOUT;
	default:
		return FAIL_OTHER;
	}
}

static void succeed(struct load *l, struct worker *w)
{
	int64_t latency = l->now - w->started_at;
	int i;

	for (i = 0; i < l->server_count && strcmp(l->servers[i].name, w->name); i++)
		;
	if (i == l->server_count && i < SERVERS_MAX)
		memcpy(l->servers[l->server_count++].name, w->name, NAME_SIZE);
	if (i < SERVERS_MAX)
		l->servers[i].count++;
	note_gap(l);
	l->ok++;
	l->last_ok = l->now;
	if (!l->first_ok)
		l->first_ok = l->now;
	l->sum_latency += latency;
	if (latency > l->max_latency)
		l->max_latency = latency;
	if (!l->keep || w->closes)
		hang_up(w);
	rest(l, w);
}

static void name_from(struct worker *w, const char *text)
{
	size_t len = text ? strcspn(text, "\r\n") : 0;

	if (len >= NAME_SIZE)
		len = NAME_SIZE - 1;
	memcpy(w->name, text ? text : "?", text ? len : 1);
	w->name[text ? len : 1] = 0;
}

static void body_arrived(struct load *l, struct worker *w, int64_t size)
{
	l->bytes += size;
	if (w->body_left < 0)
		return;
	w->body_left -= size;
	if (w->body_left > 0)
		return;
	if (w->status == 200)
		succeed(l, w);
	else
		fail(l, w, FAIL_STATUS);
}

static void head_arrived(struct load *l, struct worker *w)
{
	char *end = strstr(w->head, "\r\n\r\n");
	const char *length, *connection;
	size_t head_size;

	if (!end) {
		if (w->head_len == HEAD_MAX)
			fail(l, w, FAIL_OTHER);
		return;
	}
	head_size = (size_t)(end + 4 - w->head);
	end[2] = 0;
	w->head_done = true;
	if (sscanf(w->head, "HTTP/1.%*c %d", &w->status) != 1) {
		fail(l, w, FAIL_OTHER);
		return;
	}
	name_from(w, header_value(w->head, "X-Server"));
	length = header_value(w->head, "Content-Length");
	connection = header_value(w->head, "Connection");
	w->closes = connection && !strncasecmp(connection, "close", 5);
	w->body_left = length ? strtoll(length, NULL, 10) : -1;
	body_arrived(l, w, (int64_t)(w->head_len - head_size));
}

static void ended(struct load *l, struct worker *w, int error)
{
	if (error)
		fail(l, w, failure_of(error));
	else if (w->head_done && w->body_left < 0 && w->status == 200)
		succeed(l, w);
	else
		fail(l, w, w->head_done && w->body_left < 0 ? FAIL_STATUS : FAIL_SHORT);
}

static void receive(struct load *l, struct worker *w)
{
	while (w->state == RECEIVING) {
		bool head = !w->head_done;
		ssize_t n = recv(
			w->fd, head ? w->head + w->head_len : sink, head ? HEAD_MAX - w->head_len : sizeof(sink), 0);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 && !(l->udp && n == 0)) {
			ended(l, w, n < 0 ? errno : 0);
		} else if (l->udp) {
			w->head[n] = 0;
			l->bytes += n;
			name_from(w, w->head);
			succeed(l, w);
		} else if (head) {
			w->head_len += (size_t)n;
			w->head[w->head_len] = 0;
			head_arrived(l, w);
		} else {
			body_arrived(l, w, n);
		}
	}
}

static void watch(struct load *l, struct worker *w, int op, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.ptr = w };

	epoll_ctl(l->epoll, op, w->fd, &event);
}

static void transmit(struct load *l, struct worker *w)
{
	while (w->sent < l->request_len) {
		ssize_t n = send(w->fd, l->request + w->sent, l->request_len - w->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			ended(l, w, errno);
			return;
		}
		w->sent += (size_t)n;
	}
	watch(l, w, EPOLL_CTL_MOD, EPOLLIN);
	w->state = RECEIVING;
}

static void begin(struct load *l, struct worker *w)
{
	const int on = 1;

	l->begun++;
	w->started_at = l->now;
	w->wait_until = l->now + l->timeout_ns;
	w->sent = w->head_len = 0;
	w->head_done = w->closes = false;
	w->status = 0;
	if (w->fd >= 0) {
		w->state = SENDING;
		transmit(l, w);
		return;
	}
	w->fd = socket(l->to.addr.ss_family, (l->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (!l->udp)
		setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (w->fd < 0 || (connect(w->fd, (struct sockaddr *)&l->to.addr, l->to.len) && errno != EINPROGRESS)) {
		fail(l, w, failure_of(errno));
		return;
	}
	watch(l, w, EPOLL_CTL_ADD, EPOLLOUT);
	w->state = CONNECTING;
	if (l->udp) {
		w->state = SENDING;
		transmit(l, w);
	}
}

static void on_event(struct load *l, struct worker *w)
{
	switch (w->state) {
	case IDLE: // the other end closed a connection that was kept for the next request
		hang_up(w);
		break;
	case CONNECTING: {
		int error = 0;
		socklen_t len = sizeof(error);

		getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len);
		if (error) {
			ended(l, w, error);
			break;
		}
		w->state = SENDING;
		transmit(l, w);
		break;
	}
	case SENDING:
		transmit(l, w);
		break;
	case RECEIVING:
		receive(l, w);
		break;
	}
}

static void look_for_end(struct load *l)
{
	if (l->duration_ns && l->now >= l->start + l->duration_ns)
		l->stopping = true;
	if (l->requests && l->begun >= l->requests)
		l->stopping = true;
	if (l->stop_file && l->now >= l->stop_looked_at + 20 * MSEC) {
		l->stop_looked_at = l->now;
		if (!access(l->stop_file, F_OK))
			l->stopping = true;
	}
}

// Starts what is due, ends what took too long. Returns the milliseconds until the next turn is needed; -2 when all is
// done.
static int turn(struct load *l)
{
	int64_t next = l->stop_file ? l->now + 20 * MSEC : INT64_MAX;
	bool busy = false;

	if (l->duration_ns && !l->stopping)
		next = l->start + l->duration_ns < next ? l->start + l->duration_ns : next;
	for (int i = 0; i < l->worker_count; i++) {
		struct worker *w = &l->workers[i];

		if (w->state != IDLE && w->wait_until <= l->now)
			fail(l, w, FAIL_TIMEOUT);
		while (w->state == IDLE && w->wait_until <= l->now &&
			l->next_at <= l->now) { // more than once if it fails at once
			look_for_end(l);
			if (l->stopping)
				break;
			if (l->next_at < l->now - 100 * MSEC) // what was missed for longer than that is not made up for
				l->next_at = l->now;
			l->next_at += l->interval_ns;
			begin(l, w);
		}
		busy |= w->state != IDLE;
		if (w->state == IDLE && l->stopping)
			continue;
		if (w->state == IDLE && l->next_at > w->wait_until)
			next = l->next_at < next ? l->next_at : next;
		else
			next = w->wait_until < next ? w->wait_until : next;
	}
	look_for_end(l);
	if (l->stopping && !busy)
		return -2;
	if (next == INT64_MAX)
		return -1;
	return next <= l->now ? 0 : (int)((next - l->now + MSEC - 1) / MSEC);
}

static void loop(struct load *l)
{
	struct epoll_event events[256];
	int wait;

	l->now = l->start = l->next_at = now_ns();
	while ((wait = turn(l)) != -2 && !l->giving_up) {
		int n = epoll_wait(l->epoll, events, 256, wait);

		l->now = now_ns();
		for (int i = 0; i < n; i++) {
			struct signalfd_siginfo info;

			if (events[i].data.ptr) {
				on_event(l, events[i].data.ptr);
			} else if (read(l->signals, &info, sizeof(info)) > 0) {
				l->giving_up = l->stopping; // the second signal
				l->stopping = true;
			}
		}
	}
	note_gap(l);
}

static double ms(int64_t ns)
{
	return (double)ns / (double)MSEC;
}

static void report(const struct load *l)
{
	const char *comma = "";

	printf("{\"requests\": %lld, \"ok\": %lld, \"failed\": %lld, \"reasons\": {", (long long)(l->ok + l->failed),
		(long long)l->ok, (long long)l->failed);
	for (int i = 0; i < FAILURES; i++) {
		if (!l->reasons[i])
			continue;
		printf("%s\"%s\": %lld", comma, failure_names[i], (long long)l->reasons[i]);
		comma = ", ";
	}
	printf("}, \"servers\": {");
	comma = "";
	for (int i = 0; i < l->server_count; i++) {
		printf("%s\"", comma);
		for (const char *c = l->servers[i].name; *c; c++)
			putchar(*c == '"' || *c == '\\' || (unsigned char)*c < ' ' ? '?' : *c);
		printf("\": %lld", (long long)l->servers[i].count);
		comma = ", ";
	}
	printf("}, \"bytes\": %lld, \"mean_ms\": %.3f, \"max_ms\": %.3f, ", (long long)l->bytes,
		l->ok ? ms(l->sum_latency) / (double)l->ok : 0.0, ms(l->max_latency));
	if (l->first_ok)
		printf("\"first_ok_ms\": %.3f, ", ms(l->first_ok - l->start));
	else
		printf("\"first_ok_ms\": null, ");
	printf("\"max_gap_ms\": %.3f, \"elapsed_ms\": %.3f}\n", ms(l->max_gap), ms(l->now - l->start));
}

static void make_request(struct load *l, const char *host, const char *path, size_t body)
{
	char head[1024];
	int n;

	if (l->udp)
		n = snprintf(head, sizeof(head), "who\n");
	else if (body)
		n = snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %zu\r\n%s\r\n", path,
			host, body, l->keep ? "" : "Connection: close\r\n");
	else
		n = snprintf(head, sizeof(head), "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", path, host,
			l->keep ? "" : "Connection: close\r\n");
	l->request_len = (size_t)n + body;
	l->request = malloc(l->request_len);
	if (!l->request || (size_t)n >= sizeof(head)) {
		fprintf(stderr, "lab-load: request too large\n");
		exit(2);
	}
	memcpy(l->request, head, (size_t)n);
	memset(l->request + n, 'x', body);
}

static const char usage[] =
	"usage: lab-load [options] ADDRESS PORT\n"
	"  -n N     end after N requests (default 1 unless -t or -s)   -t SEC   end after SEC seconds\n"
	"  -s FILE  end when FILE exists                               -c N     N requests at a time (1)\n"
	"  -T MS    time limit of a request (2000)                     -r N     at most N requests a second\n"
	"  -g MS    pause of a worker between requests (0)             -u       UDP\n"
	"  -k       keep connections                                   -p PATH  what to GET (/)\n"
	"  -b N     POST N bytes instead\n";

static void options(struct load *l, int argc, char **argv)
{
	const char *path = "/";
	size_t body = 0;
	int option;

	l->timeout_ns = 2000 * MSEC;
	l->worker_count = 1;
	while ((option = getopt(argc, argv, "n:t:s:c:T:r:g:ukp:b:")) != -1) {
		switch (option) {
		case 'n':
			l->requests = number("-n", optarg, 1, INT64_MAX);
			break;
		case 't':
			l->duration_ns = (int64_t)(strtod(optarg, NULL) * 1e9);
			break;
		case 's':
			l->stop_file = optarg;
			break;
		case 'c':
			l->worker_count = (int)number("-c", optarg, 1, 10000);
			break;
		case 'T':
			l->timeout_ns = number("-T", optarg, 1, 3600000) * MSEC;
			break;
		case 'r':
			l->interval_ns = 1000 * MSEC / number("-r", optarg, 1, 1000000);
			break;
		case 'g':
			l->gap_ns = number("-g", optarg, 0, 3600000) * MSEC;
			break;
		case 'u':
			l->udp = true;
			break;
		case 'k':
			l->keep = true;
			break;
		case 'p':
			path = optarg;
			break;
		case 'b':
			body = (size_t)number("-b", optarg, 1, 1 << 30);
			break;
		default:
			optind = argc;
		}
	}
	if (argc - optind != 2 ||
		!endpoint_parse(&l->to, argv[optind], (unsigned)number("PORT", argv[optind + 1], 1, 65535))) {
		fputs(usage, stderr);
		exit(2);
	}
	if (!l->requests && !l->duration_ns && !l->stop_file)
		l->requests = 1;
	make_request(l, argv[optind], path, body);
}

int main(int argc, char **argv)
{
	struct load l = { 0 };
	struct epoll_event event = { .events = EPOLLIN };
	sigset_t stop;

	options(&l, argc, argv);
	l.workers = calloc((size_t)l.worker_count, sizeof(*l.workers));
	if (!l.workers)
		return 1;
	for (int i = 0; i < l.worker_count; i++)
		l.workers[i].fd = -1;
	sigemptyset(&stop);
	sigaddset(&stop, SIGTERM);
	sigaddset(&stop, SIGINT);
	sigprocmask(SIG_BLOCK, &stop, NULL);
	l.epoll = epoll_create1(EPOLL_CLOEXEC);
	l.signals = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
	epoll_ctl(l.epoll, EPOLL_CTL_ADD, l.signals, &event);
	loop(&l);
	report(&l);
	free(l.request);
	free(l.workers);
	return 0;
}
