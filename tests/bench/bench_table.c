// SPDX-License-Identifier: Apache-2.0
// What a table costs at the least, and when it is whole.
//
//   bench-table load SERVICES BACKENDS   fills the IPVS table (empty before) with the services and real servers of
//                                        bench-api put, by the messages of brass-director and nothing else: 64 KiB a
//                                        sendto(2), the last message of each wants an ACK
//   bench-table change COUNT             changes the weight of the first real server of the first service, a message at
//   a
//                                        time
//   bench-table wait SERVICES BACKENDS SECONDS   until that table is there, whoever makes it: two small getsockopt(2)
//                                        every 5 ms, not a dump
//
// Prints one JSON object. Sources: linux/netlink.h, linux/genetlink.h, linux/ip_vs.h.
#include <arpa/inet.h>
#include <errno.h>
#include <linux/genetlink.h>
#include <linux/ip_vs.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_SIZE (64u << 10)
#define MESSAGE_MAX 512u // larger than any of ours
#define ATTR_HEAD sizeof(struct nlattr)
#define WAIT_NS 5000000

static _Alignas(NLMSG_ALIGNTO) char out[BUFFER_SIZE], in[BUFFER_SIZE];
static size_t out_len;
static struct nlmsghdr *last; // message in out
static uint32_t seq;
static size_t messages, calls;
static int sock;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "bench-table: %s: %s\n", what, strerror(errno));
	exit(1);
}

// --- netlink ---

static size_t align(size_t len)
{
	return (len + 3) & ~(size_t)3; // NLMSG_ALIGNTO and NLA_ALIGNTO, unsigned
}

static void begin_message(uint16_t type, uint8_t command, uint8_t version)
{
	last = (struct nlmsghdr *)(void *)(out + out_len);
	*last = (struct nlmsghdr) { NLMSG_LENGTH(GENL_HDRLEN), type, NLM_F_REQUEST, ++seq, 0 };
	*(struct genlmsghdr *)NLMSG_DATA(last) = (struct genlmsghdr) { .cmd = command, .version = version };
	messages++;
}

static void end_message(void)
{
	out_len += align(last->nlmsg_len);
}

static struct nlattr *put(uint16_t type, const void *data, size_t len)
{
	struct nlattr *attr = (struct nlattr *)(void *)((char *)last + last->nlmsg_len);

	attr->nla_type = type;
	attr->nla_len = (uint16_t)(ATTR_HEAD + len);
	if (len)
		memcpy((char *)attr + ATTR_HEAD, data, len);
	memset((char *)attr + attr->nla_len, 0, align(attr->nla_len) - attr->nla_len);
	last->nlmsg_len += (uint32_t)align(attr->nla_len);
	return attr;
}

static void put_u16(uint16_t type, uint16_t value)
{
	put(type, &value, sizeof(value));
}

static void put_u32(uint16_t type, uint32_t value)
{
	put(type, &value, sizeof(value));
}

static struct nlattr *open_nest(uint16_t type)
{
	return put(type | NLA_F_NESTED, NULL, 0);
}

static void close_nest(struct nlattr *nest)
{
	nest->nla_len = (uint16_t)((char *)last + last->nlmsg_len - (char *)nest);
}

// Sends what is there and reads until the ACK of the last message. The first message that is no ACK, if any, is left in
// the buffer and returned.
static const struct nlmsghdr *flush(void)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	const struct nlmsghdr *found = NULL;

	if (!out_len)
		return NULL;
	last->nlmsg_flags |= NLM_F_ACK;
	calls++;
	if (sendto(sock, out, out_len, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) != (ssize_t)out_len)
		die("sendto");
	out_len = 0;
	for (;;) {
		ssize_t got = recv(sock, found ? in + BUFFER_SIZE / 2 : in, BUFFER_SIZE / 2, 0);
		unsigned int left = (unsigned int)got;

		calls++;
		if (got < 0)
			die("recv");
		const struct nlmsghdr *hdr = (struct nlmsghdr *)(void *)(found ? in + BUFFER_SIZE / 2 : in);
		for (; NLMSG_OK(hdr, left); hdr = NLMSG_NEXT(hdr, left)) {
			const struct nlmsgerr *e = NLMSG_DATA(hdr);

			if (hdr->nlmsg_type != NLMSG_ERROR) {
				found = hdr;
				continue;
			}
			if (e->error) {
				errno = -e->error;
				fprintf(stderr, "bench-table: message %u: ", hdr->nlmsg_seq);
				die("the kernel refused");
			}
			if (hdr->nlmsg_seq == seq)
				return found;
		}
	}
}

static uint16_t find_family(void)
{
	begin_message(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	put(CTRL_ATTR_FAMILY_NAME, IPVS_GENL_NAME, sizeof(IPVS_GENL_NAME));
	end_message();
	const struct nlmsghdr *hdr = flush();

	if (!hdr)
		die("no answer about the family");
	const char *end = (const char *)hdr + hdr->nlmsg_len;
	const struct nlattr *attr = (const void *)((const char *)NLMSG_DATA(hdr) + GENL_HDRLEN);
	for (; (const char *)attr < end; attr = (const void *)((const char *)attr + align(attr->nla_len)))
		if (attr->nla_type == CTRL_ATTR_FAMILY_ID)
			return *(const uint16_t *)(const void *)((const char *)attr + ATTR_HEAD);
	die("no family in the answer");
}

// --- the table ---

// The kernel's 256 buckets of services are chosen by the last byte of the address (ip_vs_svc_hashkey): as in a real
// table it differs, or all of them would stand in one list.
static uint32_t vip(int s)
{
	return htonl((uint32_t)(10 << 24 | 100 << 16 | (s / 250) << 8 | (s % 250 + 1)));
}

static uint32_t rip(int b)
{
	return htonl((uint32_t)(10 << 24 | 90 << 16 | (b / 250) << 8 | (b % 250 + 1)));
}

static void put_address(uint16_t type, uint32_t addr)
{
	const uint32_t bytes[4] = { addr };

	put(type, bytes, sizeof(bytes));
}

static void put_key(int s)
{
	put_u16(IPVS_SVC_ATTR_AF, AF_INET);
	put_u16(IPVS_SVC_ATTR_PROTOCOL, IPPROTO_TCP);
	put_address(IPVS_SVC_ATTR_ADDR, vip(s));
	put_u16(IPVS_SVC_ATTR_PORT, htons(80));
}

static void add_service(uint16_t family, int s)
{
	const struct ip_vs_flags flags = { .mask = ~0u };

	begin_message(family, IPVS_CMD_NEW_SERVICE, IPVS_GENL_VERSION);
	struct nlattr *service = open_nest(IPVS_CMD_ATTR_SERVICE);

	put_key(s);
	put(IPVS_SVC_ATTR_SCHED_NAME, "rr", sizeof("rr"));
	put(IPVS_SVC_ATTR_FLAGS, &flags, sizeof(flags));
	put_u32(IPVS_SVC_ATTR_TIMEOUT, 0);
	put_u32(IPVS_SVC_ATTR_NETMASK, ~0u);
	close_nest(service);
	end_message();
}

static void put_dest(uint16_t family, uint8_t command, int s, int b, uint32_t weight)
{
	begin_message(family, command, IPVS_GENL_VERSION);
	struct nlattr *service = open_nest(IPVS_CMD_ATTR_SERVICE);

	put_key(s);
	close_nest(service);
	struct nlattr *dest = open_nest(IPVS_CMD_ATTR_DEST);
	put_u16(IPVS_DEST_ATTR_ADDR_FAMILY, AF_INET);
	put_address(IPVS_DEST_ATTR_ADDR, rip(b));
	put_u16(IPVS_DEST_ATTR_PORT, htons(80));
	put_u32(IPVS_DEST_ATTR_FWD_METHOD, IP_VS_CONN_F_DROUTE);
	put_u32(IPVS_DEST_ATTR_WEIGHT, weight);
	put_u32(IPVS_DEST_ATTR_U_THRESH, 0);
	put_u32(IPVS_DEST_ATTR_L_THRESH, 0);
	close_nest(dest);
	end_message();
}

static void make_room(void)
{
	if (out_len + MESSAGE_MAX > BUFFER_SIZE)
		flush();
}

static double cpu_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint16_t open_netlink(void)
{
	const int one = 1;

	sock = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (sock < 0 || setsockopt(sock, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)))
		die("netlink");
	return find_family();
}

static void load(int services, int backends)
{
	double begin = now(), cpu = cpu_now();
	uint16_t family = open_netlink();

	for (int s = 0; s < services; s++) {
		make_room();
		add_service(family, s);
		for (int b = 0; b < backends; b++) {
			make_room();
			put_dest(family, IPVS_CMD_NEW_DEST, s, b, 100);
		}
	}
	flush();
	double seconds = now() - begin;
	printf("{\"seconds\": %.6f, \"cpu\": %.6f, \"messages\": %zu, \"calls\": %zu}\n", seconds, cpu_now() - cpu,
		messages - 1, calls + 2);
}

// --- one change at a time ---

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void change(size_t count)
{
	uint16_t family = open_netlink();
	double *us = calloc(count, sizeof(*us));

	if (!us)
		die("calloc");
	for (size_t i = 0; i < count; i++) {
		double begin = now();

		put_dest(family, IPVS_CMD_SET_DEST, 0, 0, i % 2 ? 100 : 99);
		flush();
		us[i] = (now() - begin) * 1e6;
	}
	qsort(us, count, sizeof(*us), by_value);
	printf("{\"median_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f}\n", us[count / 2], us[count * 99 / 100],
		us[count - 1]);
	free(us);
}

// --- waiting for one ---

static unsigned int dests_of(int s)
{
	struct ip_vs_service_entry entry = { .protocol = IPPROTO_TCP, .addr = vip(s), .port = htons(80) };
	socklen_t len = sizeof(entry);

	if (getsockopt(sock, IPPROTO_IP, IP_VS_SO_GET_SERVICE, &entry, &len) == 0)
		return entry.num_dests;
	if (errno != ESRCH)
		die("IP_VS_SO_GET_SERVICE");
	return 0;
}

static void wait_for(int services, int backends, double seconds)
{
	const struct timespec pause = { .tv_nsec = WAIT_NS };
	double deadline = now() + seconds, at;
	int whole = services; // from this one on

	sock = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
	if (sock < 0)
		die("socket");
	for (;;) { // tables are made from the first to the last
		at = now();
		while (whole && dests_of(whole - 1) == (unsigned int)backends)
			whole--;
		if (!whole)
			break;
		if (at > deadline) {
			errno = ETIMEDOUT;
			die("the table is not complete");
		}
		nanosleep(&pause, NULL);
	}
	printf("{\"at\": %.6f}\n", at);
}

int main(int argc, char **argv)
{
	int services = argc > 3 ? atoi(argv[2]) : 0, backends = argc > 3 ? atoi(argv[3]) : 0;

	if (services >= 1 && services <= 38000 && backends >= 1 && backends <= 60000) {
		if (strcmp(argv[1], "load") == 0 && argc == 4)
			return load(services, backends), 0;
		if (strcmp(argv[1], "wait") == 0 && argc == 5)
			return wait_for(services, backends, atof(argv[4])), 0;
	}
	if (argc == 3 && strcmp(argv[1], "change") == 0 && atoi(argv[2]) > 0)
		return change((size_t)atoi(argv[2])), 0;
	fprintf(stderr, "usage: bench-table load SERVICES BACKENDS | change COUNT | wait SERVICES BACKENDS SECONDS\n");
	return 2;
}
