// SPDX-License-Identifier: Apache-2.0
#include "agent/config_parts.h"

#include "shared/confile.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

static int check_device(const char *name, struct err *err)
{
	if (*name && strlen(name) < IFNAMSIZ && !strpbrk(name, "/ :\t\n") && strcmp(name, ".") != 0 &&
		strcmp(name, "..") != 0 && strcmp(name, "all") != 0 && strcmp(name, "default") != 0)
		return 0;
	return err_set(err, -EINVAL, NULL, "found \"%.40s\", allowed is the name of a device, of up to %d bytes", name,
		IFNAMSIZ - 1);
}

int config_parse_device(const json_t *json, void *member, struct err *err)
{
	const char *name = json_string_value(json);

	if (!name)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is the name of a device", field_json_kind(json));
	int rc = check_device(name, err);
	// what is there already is somebody else's
	if (!rc && strcmp(name, "lo") != 0)
		snprintf(member, IFNAMSIZ, "%s", name);
	return rc;
}

bool config_print_device(const void *member, struct out *out)
{
	out_string(out, *(const char *)member ? member : "lo");
	return true;
}

static int parse_devices(const json_t *json, void *member, struct err *err)
{
	struct spec_devices *devices = member;

	devices->count = 0;
	if (!json_is_array(json) || json_array_size(json) > SPEC_DEVICES_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is a list of up to %d device names",
			field_json_kind(json), SPEC_DEVICES_MAX);
	for (size_t i = 0; i < json_array_size(json); i++) {
		const char *name = json_string_value(json_array_get(json, i));
		int rc = check_device(name ? name : "", err);

		if (rc)
			return rc;
		snprintf(devices->names[devices->count++], IFNAMSIZ, "%s", name);
	}
	return 0;
}

static bool print_devices(const void *member, struct out *out)
{
	const struct spec_devices *devices = member;

	out_open(out, '[');
	for (size_t i = 0; i < devices->count; i++)
		out_string(out, devices->names[i]);
	out_close(out, '[');
	return true;
}

static int parse_allowed(const json_t *json, struct inet_prefix *ret, struct err *err)
{
	const char *text = json_string_value(json);

	if (text && inet_prefix_parse(text, ret) == 0)
		return 0;
	return err_set(err, -EINVAL, NULL, "found %s, allowed is an address or a prefix such as 10.0.0.0/24",
		text ? text : field_json_kind(json));
}

static int parse_lockdown(const json_t *json, void *member, struct err *err)
{
	struct config_lockdown *lockdown = member;
	int rc = 0;

	*lockdown = (struct config_lockdown) { .off = json_is_false(json) };
	if (json_is_boolean(json))
		return 0;
	if (!json_is_array(json) || !json_array_size(json) || json_array_size(json) > CONFIG_ALLOWED_MAX)
		return err_set(err, -EINVAL, NULL,
			"found %s, allowed is true, false, or a list of 1 to %d addresses and prefixes",
			json_is_array(json) ? "a list that is empty or too long" : field_json_kind(json),
			CONFIG_ALLOWED_MAX);
	for (size_t i = 0; i < json_array_size(json) && !rc; i++)
		rc = parse_allowed(json_array_get(json, i), &lockdown->allowed[lockdown->count++], err);
	return rc;
}

static bool print_lockdown(const void *member, struct out *out)
{
	const struct config_lockdown *lockdown = member;
	char text[INET_PREFIX_MAX];

	if (!lockdown->count) {
		out_bool(out, !lockdown->off);
		return true;
	}
	out_open(out, '[');
	for (size_t i = 0; i < lockdown->count; i++)
		out_string(out, inet_prefix_format(&lockdown->allowed[i], text));
	out_close(out, '[');
	return true;
}

static int parse_directors(const json_t *json, void *member, struct err *err)
{
	struct config_directors *directors = member;
	size_t count = json_is_array(json) ? json_array_size(json) : 1;

	if (!count || count > CONFIG_DIRECTORS_MAX)
		return err_set(
			err, -EINVAL, NULL, "found %zu directors, allowed are 1 to %d", count, CONFIG_DIRECTORS_MAX);
	for (size_t i = 0; i < count; i++) {
		const json_t *item = json_is_array(json) ? json_array_get(json, i) : json;
		const char *url = json_string_value(item);

		if (!url || strlen(url) >= CLIENT_URL_MAX ||
			(strncmp(url, "http://", 7) != 0 && strncmp(url, "https://", 8) != 0) ||
			strpbrk(url, " ?#\"\n"))
			return err_set(err, -EINVAL, NULL, "found %s, allowed are URLs such as http://10.0.0.1:4672",
				url ? url : field_json_kind(item));
		snprintf(directors->urls[i], CLIENT_URL_MAX, "%s", url);
	}
	directors->count = count;
	return 0;
}

static bool print_directors(const void *member, struct out *out)
{
	const struct config_directors *directors = member;

	out_open(out, '[');
	for (size_t i = 0; i < directors->count; i++)
		out_string(out, directors->urls[i]);
	out_close(out, '[');
	return true;
}

#define GUE_PORT 6080 // of GUE at IANA

int config_check_method(int method, struct tunnel_options *tunnel, const char *device, struct err *err)
{
	if (method == FORWARD_GUE && !tunnel->port)
		tunnel->port = GUE_PORT;
	if (*device && method != FORWARD_DR)
		return err_set(err, -EINVAL, "device",
			"found %s with method %s; only dr has one: tunnels have their own", device,
			field_choice_name(forward_method_choices, method));
	return tunnel_check(method, tunnel, err);
}

// One gre device takes all, and it wants checksums or none.
struct gre {
	int checksum;
	char who[PROTOCOL_NAME_MAX + 1]; // "": none yet
};

static int agree(struct gre *gre, int method, const struct tunnel_options *tunnel, const char *field, const char *who,
	struct err *err)
{
	if (method != FORWARD_GRE)
		return 0;
	if (*gre->who && gre->checksum != tunnel->checksum)
		return err_set(err, -EINVAL, field,
			"%s and %s differ in tunnel.checksum; on one host gre has checksums or has none", gre->who,
			who);
	gre->checksum = tunnel->checksum;
	snprintf(gre->who, sizeof(gre->who), "%s", who);
	return 0;
}

static int check_gre(const struct config *config, struct err *err)
{
	struct gre gre = { 0 };
	char addr[INET_ADDR_MAX];
	int rc = 0;

	for (size_t i = 0; i < config->backends.count && !rc; i++) {
		const struct config_backend *b = &config->backends.items[i];

		rc = agree(&gre, b->method, &b->tunnel, "backends", b->service, err);
	}
	for (size_t i = 0; i < config->statics.count && !rc; i++) {
		const struct config_static *s = &config->statics.items[i];

		rc = agree(&gre, s->method, &s->tunnel, "static", inet_addr_format(&s->host, addr), err);
	}
	return rc;
}

#define ROW(member) .offset = offsetof(struct config, member), .size = sizeof(((struct config *)NULL)->member)

static const struct field rows[] = {
	{ "node", FIELD_NAME, ROW(node), .help = "name of this host at the directors; default: the host name" },
	{ "address", FIELD_ADDR, ROW(address),
		.help = "RIP; default: the address that routes to the director (static alone: to the default "
			"gateway)" },
	{ "directors", FIELD_CUSTOM, ROW(directors), .parse = parse_directors, .print = print_directors,
		.help = "URLs of the directors' REST APIs" },
	{ "insecure", FIELD_BOOL, ROW(insecure), .def = "false",
		.help = "allow plain HTTP to directors that are not on loopback" },
	{ "backends", FIELD_CUSTOM, ROW(backends), .parse = config_parse_backends,
		.help = "what this host serves, by service name: port, method, weight" },
	{ "static", FIELD_CUSTOM, ROW(statics), .parse = config_parse_statics,
		.help = "VIPs that no director tells of: a list of host, method and the like" },
	{ "labels", FIELD_CUSTOM, ROW(labels), .parse = labels_parse, .print = labels_print,
		.help = "what this host is, for splits and zones of all its services: {zone: a}" },
	{ "drain", FIELD_DURATION, ROW(drain_ms), .max = CONFIG_DRAIN_MAX_MS, .def = "\"30s\"",
		.help = "longest time to wait for open connections, when stopping or drained by hand" },
	{ "ttl", FIELD_DURATION, ROW(ttl_ms), .min = PROTOCOL_TTL_MIN_MS, .max = PROTOCOL_TTL_MAX_MS, .def = "\"10s\"",
		.help = "the lease: after this much silence the director sends nothing more here" },
	{ "gateway", FIELD_ADDR, ROW(gateway), .help = "nat: where replies go; default: the director's address" },
	{ "nat_table", FIELD_UINT, ROW(nat_table), .min = 1, .max = UINT32_MAX, .def = "4672",
		.help = "nat: routing table of the return path" },
	{ "nat_priority", FIELD_UINT, ROW(nat_priority), .min = 1, .max = 32765, .def = "4672",
		.help = "nat: priority of the rules that lead to it" },
	{ "mss_table", FIELD_UINT, ROW(mss_table), .min = 1, .max = UINT32_MAX, .def = "4673",
		.help = "tunnels: routing table with the MSS that replies advertise" },
	{ "mss_priority", FIELD_UINT, ROW(mss_priority), .min = 1, .max = 32765, .def = "4673",
		.help = "tunnels: priority of the rules that lead to it" },
	{ "devices", FIELD_CUSTOM, ROW(devices), .parse = parse_devices, .print = print_devices, .def = "[]",
		.help = "devices that must not answer ARP for VIPs; default: all" },
	{ "manage_all", FIELD_BOOL, ROW(manage_all), .def = "false",
		.help = "lower net/ipv4/conf/all/arp_ignore and arp_announce where they overrule what a device needs" },
	{ "lockdown", FIELD_CUSTOM, ROW(lockdown), .parse = parse_lockdown, .print = print_lockdown, .def = "true",
		.help = "tunnel packets are taken from the directors only: true, false, or a list of addresses and "
			"prefixes that may send as well. By default where the kernel has nftables; written down, there "
			"is no tunnel without it" },
	{ "check_interval", FIELD_DURATION, ROW(check_interval_ms), .min = 100, .max = 86400000, .def = "\"5s\"",
		.help = "time between two looks at what sends no event (sysctls)" },
	{ "run_dir", FIELD_STRING, ROW(run_dir), .def = "\"/run/brass\"",
		.help = "journal, last known state, control socket" },
	{ "log_level", FIELD_CHOICE, ROW(log_level), .choices = options_log_levels, .def = "\"info\"",
		.help = "least urgent lines that are logged" },
};

const struct field_table config_fields = {
	.what = "agent configuration",
	.rows = rows,
	.count = ARRAY_SIZE(rows),
	.size = sizeof(struct config),
	.set_offset = offsetof(struct config, set),
};

// The host of a URL is a loopback address, or "localhost".
static bool is_local_url(const char *url)
{
	char host[CLIENT_URL_MAX];
	const char *begin = strstr(url, "://") + 3;
	size_t len = *begin == '[' ? strcspn(++begin, "]") : strcspn(begin, ":/");
	struct inet_addr addr;

	snprintf(host, sizeof(host), "%.*s", (int)len, begin);
	return strcmp(host, "localhost") == 0 || (inet_addr_parse(host, &addr) == 0 && inet_addr_is_loopback(&addr));
}

static bool is_reserved(uint32_t table)
{
	return table >= RT_TABLE_DEFAULT && table <= RT_TABLE_LOCAL;
}

static int check_run_dir(void *obj, struct err *err)
{
	const struct config *config = obj;

	if (config->run_dir[0] != '/')
		return err_set(err, -EINVAL, "run_dir", "found \"%s\", allowed is an absolute path", config->run_dir);
	// "<run_dir>/agent.sock" must fit into sockaddr_un
	if (strlen(config->run_dir) > 90)
		return err_set(err, -EINVAL, "run_dir", "found a path of %zu bytes, allowed are at most 90",
			strlen(config->run_dir));
	return 0;
}

// A service's own count before the host's.
static int merge_labels(struct config *config, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; i < config->backends.count && !rc; i++) {
		struct config_backend *b = &config->backends.items[i];
		const struct labels own = b->labels;

		rc = labels_merge(&own, &config->labels, &b->labels, err);
		if (rc) {
			err_prefix(err, "labels");
			err_prefix(err, b->service);
			err_prefix(err, "backends");
		}
	}
	return rc;
}

static int check(void *obj, struct err *err)
{
	struct config *config = obj;

	if (!config->backends.items && !config->statics.count)
		return err_set(err, -EINVAL, NULL, "neither backends nor static is given: name what this host serves");
	if (config->backends.count && !config->directors.count)
		return err_set(err, -EINVAL, "directors",
			"backends need one: the URL of a director's REST API, or a list of them");
	for (size_t i = 0; i < config->directors.count && !config->insecure; i++) {
		const char *url = config->directors.urls[i];

		if (strncmp(url, "http://", 7) == 0 && !is_local_url(url))
			return err_set(err, -EINVAL, "directors",
				"%s is plain HTTP to another host: set \"insecure: true\" if that network is trusted",
				url);
	}
	if (is_reserved(config->nat_table) || is_reserved(config->mss_table))
		return err_set(err, -EINVAL, is_reserved(config->nat_table) ? "nat_table" : "mss_table",
			"found %u, which is the system's own (default, main, local); allowed is any other",
			is_reserved(config->nat_table) ? config->nat_table : config->mss_table);
	if (config->nat_table == config->mss_table)
		return err_set(err, -EINVAL, "mss_table", "found %u, which is nat_table; allowed is any other",
			config->mss_table);
	if (check_gre(config, err) || merge_labels(config, err))
		return -EINVAL;
	if (check_run_dir(config, err))
		return -EINVAL;
	if (!*config->node) {
		char name[256] = "";

		gethostname(name, sizeof(name) - 1);
		if (!field_name_ok(name, PROTOCOL_NAME_MAX))
			return err_set(err, -EINVAL, "node", "the host name \"%.80s\" is no node name; set one", name);
		snprintf(config->node, sizeof(config->node), "%.64s", name);
	}
	return 0;
}

void config_clear(struct config *config)
{
	free(config->backends.items);
	config->backends.items = NULL;
	free(config->statics.items);
	config->statics.items = NULL;
}

int config_read(const char *path, const json_t *options, struct config *ret, char message[CONFILE_MESSAGE_MAX])
{
	*ret = (struct config) { 0 };
	int rc = confile_configure(path, options, &config_fields, check, ret, message);

	if (rc)
		config_clear(ret);
	return rc;
}

int config_read_bare(const json_t *options, struct config *ret, char message[CONFILE_MESSAGE_MAX])
{
	*ret = (struct config) { 0 };
	return confile_configure(NULL, options, &config_fields, check_run_dir, ret, message);
}
