// SPDX-License-Identifier: Apache-2.0
// The table, and what is pure about its values: as numbers, as the kernel's text, as JSON.
#include "director/settings_fields.h"

#include "shared/clock.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define SECOND_MS 1000
#define TIMEOUT_MAX_MS ((msec_t)24 * 86400000) // INT_MAX / HZ seconds, where HZ is largest: 1000
#define SYNC_PORTS_MAX 64

static int whole_seconds(msec_t ms, struct err *err)
{
	return ms % SECOND_MS ? err_set(err, -EINVAL, NULL, "found %" PRId64 "ms, allowed are whole seconds", ms) : 0;
}

static int parse_seconds(const json_t *json, void *member, msec_t min, msec_t max, struct err *err)
{
	const struct field row = { .type = FIELD_DURATION, .size = sizeof(msec_t), .min = min, .max = max };
	int rc = field_read_value(&row, json, member, err);

	return rc ? rc : whole_seconds(*(const msec_t *)member, err);
}

static int parse_timeout(const json_t *json, void *member, struct err *err)
{
	return parse_seconds(json, member, SECOND_MS, TIMEOUT_MAX_MS, err);
}

static int parse_refresh(const json_t *json, void *member, struct err *err)
{
	return parse_seconds(json, member, 0, TIMEOUT_MAX_MS, err);
}

static bool print_seconds(const void *member, struct out *out)
{
	char buf[CLOCK_DURATION_MAX];

	out_string(out, clock_format_duration(*(const msec_t *)member, buf));
	return true;
}

static int parse_threshold(const json_t *json, void *member, struct err *err)
{
	struct settings_threshold *threshold = member;
	const json_t *packets = json_array_get(json, 0), *period = json_array_get(json, 1);

	if (json_array_size(json) != 2 || !json_is_integer(packets) || !json_is_integer(period) ||
		json_integer_value(packets) < 0 || json_integer_value(packets) > INT_MAX ||
		json_integer_value(period) < 0 || json_integer_value(period) > INT_MAX ||
		(json_integer_value(period) && json_integer_value(packets) >= json_integer_value(period)))
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is [PACKETS, PERIOD]: two whole numbers, the first smaller than the second "
			"or "
			"the second 0",
			json_is_array(json) ? "another list" : field_json_kind(json));
	threshold->packets = (uint32_t)json_integer_value(packets);
	threshold->period = (uint32_t)json_integer_value(period);
	return 0;
}

static bool print_threshold(const void *member, struct out *out)
{
	const struct settings_threshold *threshold = member;

	out_open(out, '[');
	out_uint(out, threshold->packets);
	out_uint(out, threshold->period);
	out_close(out, '[');
	return true;
}

static int parse_ports(const json_t *json, void *member, struct err *err)
{
	json_int_t n = json_is_integer(json) ? json_integer_value(json) : 0;

	if (n < 1 || n > SYNC_PORTS_MAX || (n & (n - 1)))
		return err_set(err, -EINVAL, NULL, "found %s, allowed is 1, 2, 4, 8, 16, 32 or 64",
			json_is_integer(json) ? "another number" : field_json_kind(json));
	*(uint32_t *)member = (uint32_t)n;
	return 0;
}

static bool print_ports(const void *member, struct out *out)
{
	out_uint(out, *(const uint32_t *)member);
	return true;
}

#define MEMBER(struct_, member) \
	.offset = offsetof(struct struct_, member), .size = sizeof(((struct struct_ *)NULL)->member)
#define UINT(member_, max_, help_)                                                                     \
	{                                                                                              \
#member_, FIELD_UINT, MEMBER(settings_wanted, member_), .max = (max_), .help = (help_) \
	}

static const struct field timeout_rows[] = {
	{ "tcp", FIELD_CUSTOM, MEMBER(settings_timeouts, tcp), .parse = parse_timeout, .print = print_seconds,
		.help = "an established TCP connection without packets is forgotten after this time (kernel: 15m)" },
	{ "tcp_fin", FIELD_CUSTOM, MEMBER(settings_timeouts, tcp_fin), .parse = parse_timeout, .print = print_seconds,
		.help = "the same after a FIN was seen (kernel: 2m)" },
	{ "udp", FIELD_CUSTOM, MEMBER(settings_timeouts, udp), .parse = parse_timeout, .print = print_seconds,
		.help = "the same for UDP (kernel: 5m)" },
};
static_assert(ARRAY_SIZE(timeout_rows) == IPVS_TIMEOUTS, "a row for every timeout, in its order");

const struct field_table settings_timeout_fields = {
	.what = "set of timeouts",
	.rows = timeout_rows,
	.count = ARRAY_SIZE(timeout_rows),
	.size = sizeof(struct settings_timeouts),
	.set_offset = offsetof(struct settings_timeouts, set),
};

static const struct field rows[] = {
	UINT(am_droprate, INT_MAX, "in mode 3 of drop_packet one packet of this many is dropped"),
	UINT(amemthresh, INT_MAX, "free memory below this many pages switches the automatic modes (1) on"),
	UINT(backup_only, 1,
		"1: while a backup daemon runs, this host does not balance (directors that are real servers as well)"),
	UINT(cache_bypass, 1, "1: a packet for which no cache server is there goes to its origin (transparent caches)"),
	UINT(conn_reuse_mode, 3,
		"a client uses its port again: 0 goes to the old server, 1 a new choice once the old connection is "
		"over, 3 also "
		"while only its FIN was seen, the last that dr and ipip show"),
	UINT(conntrack, 1, "1: connections are seen by netfilter's connection tracking, for rules that need it"),
	UINT(drop_entry, 3, "connection entries are dropped at random: 0 never, 1 when memory is short, 3 always"),
	UINT(drop_packet, 3, "packets are dropped: 0 never, 1 when memory is short, 3 always"),
	UINT(expire_nodest_conn, 1, "1: connections of a server that was deleted end at once; 0: their packets vanish"),
	UINT(expire_quiescent_template, 1, "1: persistent clients leave a server whose weight is 0"),
	UINT(ignore_tunneled, 1, "1: tunnel packets are never balanced (directors that are real servers as well)"),
	UINT(nat_icmp_send, 1, "1: a nat server's packet without a connection is answered with ICMP unreachable"),
	UINT(pmtu_disc, 1, "1: tell clients with ICMP when a packet is too large; 0: fragment it"),
	UINT(run_estimation, 1, "1: counters and rates are kept up to date; 0 saves work with very many services"),
	UINT(schedule_icmp, 1,
		"1: ICMP errors without a connection are balanced, too (MTU discovery over several "
		"directors)"),
	UINT(secure_tcp, 3, "stricter TCP states against floods: 0 never, 1 when memory is short, 3 always"),
	UINT(sloppy_sctp, 1, "1: any SCTP packet may begin a connection"),
	UINT(sloppy_tcp, 1, "1: any TCP packet may begin a connection, so that another director can pick it up"),
	UINT(snat_reroute, 1, "1: replies of nat servers are routed again, by the VIP as their source"),
	UINT(sync_persist_mode, 1, "1: of persistent clients only the templates are synchronised"),
	{ "sync_ports", FIELD_CUSTOM, MEMBER(settings_wanted, sync_ports), .parse = parse_ports, .print = print_ports,
		.help = "threads and ports of a sync daemon: 1, 2, 4 ... 64; for daemons started from now on" },
	UINT(sync_qlen_max, INT_MAX, "longest queue of sync messages that are not yet sent"),
	{ "lblc_expiration", FIELD_CUSTOM, MEMBER(settings_wanted, lblc_expiration), .parse = parse_refresh,
		.print = print_seconds, .help = "scheduler lblc forgets the server of a destination after this time" },
	{ "lblcr_expiration", FIELD_CUSTOM, MEMBER(settings_wanted, lblcr_expiration), .parse = parse_refresh,
		.print = print_seconds, .help = "the same for lblcr" },
	{ "sync_refresh_period", FIELD_CUSTOM, MEMBER(settings_wanted, sync_refresh_period), .parse = parse_refresh,
		.print = print_seconds, .help = "a connection is synchronised again after this time at the earliest" },
	UINT(sync_retries, 3, "how often a message is repeated within sync_refresh_period"),
	UINT(sync_sock_size, INT_MAX, "socket buffer of a sync daemon in bytes, 0: the system's default"),
	{ "sync_threshold", FIELD_CUSTOM, MEMBER(settings_wanted, sync_threshold), .parse = parse_threshold,
		.print = print_threshold,
		.help = "[PACKETS, PERIOD]: the other directors hear of a connection at its packet number PACKETS "
			"(TCP: 2 or "
			"more) and after every PERIOD more; PERIOD 0: once" },
	UINT(sync_version, 1, "message format: 1, or 0 for kernels before 2.6.39"),
	{ "timeouts", FIELD_OBJECT, MEMBER(settings_wanted, timeouts), .sub = &settings_timeout_fields,
		.help = "tcp, tcp_fin, udp: how long connections without packets are kept" },
};
static_assert(ARRAY_SIZE(rows) == SETTINGS_FILES + 1, "the timeouts come last, all others are files");
static_assert(ARRAY_SIZE(rows) <= 64, "a bit for every row");

const struct field_table settings_fields = {
	.what = "set of IPVS settings",
	.rows = rows,
	.count = ARRAY_SIZE(rows),
	.size = sizeof(struct settings_wanted),
	.set_offset = offsetof(struct settings_wanted, set),
};

// --- values ---

int settings_read_text(const char *text, int64_t ret[2])
{
	int count = 0;

	ret[0] = ret[1] = 0;
	for (;;) {
		char *end;

		text += strspn(text, " \t\n");
		if (!*text)
			return count ? count : -EINVAL;
		errno = 0;
		long long n = strtoll(text, &end, 10);
		if (end == text || errno || count == 2)
			return -EINVAL;
		ret[count++] = n;
		text = end;
	}
}

bool settings_same(const char *name, const int64_t a[2], const int64_t b[2])
{
	static const char *const automatic[] = { "drop_entry", "drop_packet", "secure_tcp" };

	if (a[0] == b[0] && a[1] == b[1])
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(automatic); i++)
		if (strcmp(name, automatic[i]) == 0)
			return (a[0] == 1 || a[0] == 2) && (b[0] == 1 || b[0] == 2);
	return false;
}

void settings_numbers(const struct settings_wanted *wanted, size_t row, int64_t ret[2])
{
	const void *member = (const char *)wanted + rows[row].offset;

	ret[1] = 0;
	if (rows[row].parse == parse_threshold) {
		const struct settings_threshold *threshold = member;

		ret[0] = threshold->packets;
		ret[1] = threshold->period;
	} else if (rows[row].parse == parse_refresh) {
		ret[0] = *(const msec_t *)member / SECOND_MS;
	} else {
		ret[0] = *(const uint32_t *)member;
	}
}

void settings_print_text(size_t row, const int64_t n[2], char ret[SETTINGS_TEXT_MAX])
{
	if (rows[row].parse == parse_threshold)
		snprintf(ret, SETTINGS_TEXT_MAX, "%" PRId64 " %" PRId64, n[0], n[1]);
	else
		snprintf(ret, SETTINGS_TEXT_MAX, "%" PRId64, n[0]);
}

void settings_write_value(size_t row, const int64_t n[2], struct out *out)
{
	char buf[CLOCK_DURATION_MAX];

	if (rows[row].parse == parse_threshold) {
		out_open(out, '[');
		out_int(out, n[0]);
		out_int(out, n[1]);
		out_close(out, '[');
	} else if (rows[row].parse == parse_refresh) {
		out_string(out, clock_format_duration(n[0] * SECOND_MS, buf));
	} else {
		out_int(out, n[0]);
	}
}

bool settings_comes_later(size_t row)
{
	return strcmp(rows[row].name, "lblc_expiration") == 0 || strcmp(rows[row].name, "lblcr_expiration") == 0;
}

void settings_wanted_timeouts(const struct settings_timeouts *timeouts, uint32_t ret_s[IPVS_TIMEOUTS])
{
	for (size_t i = 0; i < IPVS_TIMEOUTS; i++) {
		const char *member = (const char *)timeouts + timeout_rows[i].offset;

		ret_s[i] = timeouts->set >> i & 1 ? (uint32_t)(*(const msec_t *)(const void *)member / SECOND_MS) : 0;
	}
}
