// SPDX-License-Identifier: Apache-2.0
// A row of the field table is a file under /proc with the same name; its value is one or two numbers, whatever the row
// makes of them. Reading, comparing, writing and showing go by these numbers.
#include "director/settings.h"

#include "shared/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>

#define FOLDER "/proc/sys/net/ipv4/vs/"
#define TEXT_MAX 64
#define SECOND_MS 1000
#define TIMEOUT_MAX_MS ((msec_t)24 * 86400000) // INT_MAX / HZ seconds, where HZ is largest: 1000
#define SYNC_PORTS_MAX 64

// --- the table ---

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
#define FILES (ARRAY_SIZE(rows) - 1) // all but the timeouts
static_assert(ARRAY_SIZE(rows) <= 64, "a bit for every row");

const struct field_table settings_fields = {
	.what = "set of IPVS settings",
	.rows = rows,
	.count = ARRAY_SIZE(rows),
	.size = sizeof(struct settings_wanted),
	.set_offset = offsetof(struct settings_wanted, set),
};

// What we want when nothing is declared.
static const struct {
	const char *name;
	int64_t value;
	bool sync; // only beside a sync daemon
} defaults[] = {
	{ "expire_nodest_conn", 1, false },
	{ "expire_quiescent_template", 1, false },
	{ "conn_reuse_mode", 1, false },
	{ "sloppy_tcp", 1, true },
};

struct settings {
	struct settings_wanted declared;
	struct ipvs_control *control;
	bool sync;
	uint64_t failed; // rows that could not be read or set: said once
	bool timeouts_failed;
};

// --- numbers ---

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

// What row shall be; false: it is left alone.
static bool wanted(const struct settings *settings, size_t row, int64_t ret[2], bool *ret_declared)
{
	const struct field *field = &rows[row];
	const void *member = (const char *)&settings->declared + field->offset;

	ret[1] = 0;
	*ret_declared = settings->declared.set >> row & 1;
	if (!*ret_declared) {
		for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
			if (strcmp(defaults[i].name, field->name) != 0 || (defaults[i].sync && !settings->sync))
				continue;
			ret[0] = defaults[i].value;
			return true;
		}
		return false;
	}
	if (field->parse == parse_threshold) {
		const struct settings_threshold *threshold = member;

		ret[0] = threshold->packets;
		ret[1] = threshold->period;
	} else if (field->parse == parse_refresh) {
		ret[0] = *(const msec_t *)member / SECOND_MS;
	} else {
		ret[0] = *(const uint32_t *)member;
	}
	return true;
}

static void as_text(const struct field *row, const int64_t n[2], char text[TEXT_MAX])
{
	if (row->parse == parse_threshold)
		snprintf(text, TEXT_MAX, "%" PRId64 " %" PRId64, n[0], n[1]);
	else
		snprintf(text, TEXT_MAX, "%" PRId64, n[0]);
}

// The file of a scheduler comes with its module, which the kernel loads when it is first used.
static bool comes_later(size_t row)
{
	return strcmp(rows[row].name, "lblc_expiration") == 0 || strcmp(rows[row].name, "lblcr_expiration") == 0;
}

// --- files ---

static int open_file(const char *name, int flags)
{
	char path[sizeof(FOLDER) + 40];

	snprintf(path, sizeof(path), FOLDER "%s", name);
	int fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int read_file(const char *name, int64_t ret[2])
{
	_cleanup_close_ int fd = open_file(name, O_RDONLY);
	char text[TEXT_MAX];

	if (fd < 0)
		return fd;
	ssize_t n = read(fd, text, sizeof(text) - 1);
	if (n < 0)
		return -errno;
	text[n] = '\0';
	return settings_read_text(text, ret) < 0 ? -EBADMSG : 0;
}

static int write_file(const char *name, const char *text)
{
	_cleanup_close_ int fd = open_file(name, O_WRONLY);

	if (fd < 0)
		return fd;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

// Sets a row that differs. 1: it was set; *ret_found is what was there. 0 or -errno.
static int set_row(const struct field *row, const int64_t want[2], char found[TEXT_MAX], char text[TEXT_MAX])
{
	int64_t now[2];
	int rc = read_file(row->name, now);

	snprintf(found, TEXT_MAX, "?");
	as_text(row, want, text);
	if (rc)
		return rc;
	as_text(row, now, found);
	if (settings_same(row->name, now, want))
		return 0;
	rc = write_file(row->name, text);
	return rc ? rc : 1;
}

// --- timeouts ---

static void wanted_timeouts(const struct settings *settings, uint32_t ret_s[IPVS_TIMEOUTS])
{
	const struct settings_timeouts *timeouts = &settings->declared.timeouts;

	for (size_t i = 0; i < IPVS_TIMEOUTS; i++) {
		const char *member = (const char *)timeouts + timeout_rows[i].offset;

		ret_s[i] = timeouts->set >> i & 1 ? (uint32_t)(*(const msec_t *)(const void *)member / SECOND_MS) : 0;
	}
}

static bool wants_timeouts(const struct settings *settings)
{
	return settings->declared.timeouts.set;
}

// Sets those that differ; tell hears of each.
static int set_timeouts(
	struct settings *settings, void (*tell)(const char *name, const char *found, const char *want), struct err *err)
{
	uint32_t now[IPVS_TIMEOUTS], want[IPVS_TIMEOUTS];
	bool differs = false;
	int rc = ipvs_control_timeouts(settings->control, now, err);

	wanted_timeouts(settings, want);
	for (size_t i = 0; i < IPVS_TIMEOUTS && !rc; i++)
		differs |= want[i] && want[i] != now[i];
	if (!rc && differs)
		rc = ipvs_control_set_timeouts(settings->control, want, err);
	for (size_t i = 0; i < IPVS_TIMEOUTS && !rc && differs; i++) {
		char name[32], found[CLOCK_DURATION_MAX], wish[CLOCK_DURATION_MAX];

		if (!want[i] || want[i] == now[i])
			continue;
		snprintf(name, sizeof(name), "timeouts.%s", timeout_rows[i].name);
		tell(name, clock_format_duration((msec_t)now[i] * SECOND_MS, found),
			clock_format_duration((msec_t)want[i] * SECOND_MS, wish));
	}
	if (rc) {
		err_prefix(err, "ipvs.timeouts");
		err_context(err, "cannot be set: ");
	}
	return rc;
}

// --- life ---

int settings_new(
	const struct settings_wanted *declared, struct ipvs_control *control, struct settings **ret, struct err *err)
{
	for (size_t i = 0; i < FILES; i++) {
		int64_t now[2];

		if (!(declared->set >> i & 1) || comes_later(i) || read_file(rows[i].name, now) != -ENOENT)
			continue;
		err_set(err, -EOPNOTSUPP, rows[i].name,
			"this kernel has no such setting (" FOLDER "%s): take it out of the configuration",
			rows[i].name);
		err_prefix(err, "ipvs");
		return -EOPNOTSUPP;
	}
	struct settings *settings = calloc(1, sizeof(*settings));

	if (!settings)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	settings->declared = *declared;
	settings->control = control;
	*ret = settings;
	return 0;
}

void settings_free(struct settings *settings)
{
	free(settings);
}

void settings_with_sync(struct settings *settings, bool sync)
{
	settings->sync = sync;
}

static void tell_set(const char *name, const char *found, const char *want)
{
	log_info("ipvs.%s: was %s, set to %s", name, found, want);
}

static void tell_put_back(const char *name, const char *found, const char *want)
{
	log_warning("ipvs.%s: found %s, wanted %s; put back", name, found, want);
}

// A default of ours: the director works without it.
static void warn_of_default(struct settings *settings, size_t row, const char *want, int rc)
{
	if (settings->failed >> row & 1)
		return;
	settings->failed |= UINT64_C(1) << row;
	if (rc == -ENOENT)
		log_warning("ipvs.%s: this kernel has no such setting; going on without our default, %s",
			rows[row].name, want);
	else
		log_warning("ipvs.%s: our default, %s, cannot be set: %s; declare another value, or set it by hand",
			rows[row].name, want, strerror(-rc));
}

int settings_apply(struct settings *settings, struct err *err)
{
	for (size_t i = 0; i < FILES; i++) {
		char found[TEXT_MAX], text[TEXT_MAX];
		int64_t want[2];
		bool declared;

		if (!wanted(settings, i, want, &declared))
			continue;
		int rc = set_row(&rows[i], want, found, text);
		if (rc == -ENOENT && comes_later(i))
			continue; // the first resync after that sets it
		if (rc < 0 && declared) {
			err_set(err, rc, rows[i].name, "found %s, cannot be set to %s: %s", found, text, strerror(-rc));
			err_prefix(err, "ipvs");
			return rc;
		}
		if (rc < 0)
			warn_of_default(settings, i, text, rc);
		else if (rc)
			tell_set(rows[i].name, found, text);
	}
	return wants_timeouts(settings) ? set_timeouts(settings, tell_set, err) : 0;
}

void settings_verify(struct settings *settings)
{
	struct err err = { 0 };
	char line[ERR_LINE_MAX];

	for (size_t i = 0; i < FILES; i++) {
		const uint64_t bit = UINT64_C(1) << i;
		char found[TEXT_MAX], text[TEXT_MAX];
		int64_t want[2];
		bool declared;

		if (!wanted(settings, i, want, &declared))
			continue;
		int rc = set_row(&rows[i], want, found, text);
		if (rc == -ENOENT && comes_later(i))
			continue;
		if (rc > 0)
			tell_put_back(rows[i].name, found, text);
		if (rc >= 0)
			settings->failed &= ~bit;
		else if (!declared)
			warn_of_default(settings, i, text, rc);
		else if (!(settings->failed & bit))
			log_error("ipvs.%s: found %s, cannot be put back to %s: %s; every resync tries again",
				rows[i].name, found, text, strerror(-rc));
		if (rc < 0)
			settings->failed |= bit;
	}
	int rc = wants_timeouts(settings) ? set_timeouts(settings, tell_put_back, &err) : 0;

	if (rc && !settings->timeouts_failed)
		log_error("%s; every resync tries again", err_line(&err, line, sizeof(line)));
	settings->timeouts_failed = rc != 0;
}

// --- showing ---

static void write_settings(const struct settings *settings, struct out *out)
{
	out_open(out, '{');
	for (size_t i = 0; i < FILES; i++) {
		char buf[CLOCK_DURATION_MAX];
		int64_t n[2];
		bool declared;

		if (!wanted(settings, i, n, &declared) || read_file(rows[i].name, n))
			continue;
		out_key(out, rows[i].name);
		if (rows[i].parse == parse_threshold) {
			out_open(out, '[');
			out_int(out, n[0]);
			out_int(out, n[1]);
			out_close(out, '[');
		} else if (rows[i].parse == parse_refresh) {
			out_string(out, clock_format_duration(n[0] * SECOND_MS, buf));
		} else {
			out_int(out, n[0]);
		}
	}
	out_close(out, '{');
}

void settings_write(const struct settings *settings, struct out *out)
{
	uint32_t timeouts[IPVS_TIMEOUTS];
	struct ipvs_info info;

	out_open(out, '{');
	if (ipvs_control_info(settings->control, &info, NULL) == 0) {
		char version[32];

		snprintf(version, sizeof(version), "%u.%u.%u", info.version >> 16 & 0xff, info.version >> 8 & 0xff,
			info.version & 0xff);
		out_key(out, "version");
		out_string(out, version);
		out_key(out, "connection_table_size");
		out_uint(out, info.table_size);
	}
	out_key(out, "settings");
	write_settings(settings, out);
	if (ipvs_control_timeouts(settings->control, timeouts, NULL) == 0) {
		out_key(out, "timeouts");
		out_open(out, '{');
		for (size_t i = 0; i < IPVS_TIMEOUTS; i++) {
			char buf[CLOCK_DURATION_MAX];

			out_key(out, timeout_rows[i].name);
			out_string(out, clock_format_duration((msec_t)timeouts[i] * SECOND_MS, buf));
		}
		out_close(out, '{');
	}
	out_close(out, '{');
}
