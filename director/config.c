// SPDX-License-Identifier: Apache-2.0
#include "director/config.h"

#include "director/state.h"
#include "shared/confile.h"
#include "shared/log.h"
#include "shared/options.h"
#include "shared/util.h"

#include <errno.h>
#include <string.h>

#define DEFAULT_PORT 4672

static int parse_listen(const json_t *json, void *member, struct err *err)
{
	struct config_listen *listen = member;
	size_t count = json_is_array(json) ? json_array_size(json) : 1;

	if (!count || count > CONFIG_LISTEN_MAX)
		return err_set(
			err, -EINVAL, NULL, "found %zu addresses, allowed are 1 to %d", count, CONFIG_LISTEN_MAX);
	for (size_t i = 0; i < count; i++) {
		const json_t *item = json_is_array(json) ? json_array_get(json, i) : json;
		const char *text = json_string_value(item);

		if (!text || inet_endpoint_parse(text, DEFAULT_PORT, &listen->endpoints[i]) ||
			!listen->endpoints[i].port)
			return err_set(err, -EINVAL, NULL,
				"found %s, allowed is ADDRESS:PORT or [IPV6-ADDRESS]:PORT, with a port from 1 to 65535",
				text ? text : field_json_kind(item));
	}
	listen->count = count;
	return 0;
}

static bool print_listen(const void *member, struct out *out)
{
	const struct config_listen *listen = member;

	out_open(out, '[');
	for (size_t i = 0; i < listen->count; i++) {
		char text[INET_ENDPOINT_MAX];

		out_string(out, inet_endpoint_format(&listen->endpoints[i], text));
	}
	out_close(out, '[');
	return true;
}

static int parse_folders(const json_t *json, void *member, struct err *err)
{
	struct check_folders *folders = member;
	const size_t count = json_array_size(json);

	memset(folders, 0, sizeof(*folders));
	if (!json_is_array(json) || count > CHECK_FOLDERS_MAX)
		return err_set(err, -EINVAL, NULL, "found %s, allowed is a list of up to %d folders",
			json_is_array(json) ? "more of them" : field_json_kind(json), CHECK_FOLDERS_MAX);
	for (; folders->count < count; folders->count++) {
		char *to = folders->items[folders->count];
		const char *folder = json_string_value(json_array_get(json, folders->count));
		const size_t len = folder ? strlen(folder) : 0;

		if (len < 2 || *folder != '/' || len >= sizeof(folders->items[0]) || strstr(folder, "/../"))
			return err_set(err, -EINVAL, NULL, "found %.80s, allowed is the absolute path of a folder",
				folder ? folder : field_json_kind(json_array_get(json, folders->count)));
		memcpy(to, folder, len - (folder[len - 1] == '/'));
	}
	return 0;
}

static bool print_folders(const void *member, struct out *out)
{
	const struct check_folders *folders = member;

	out_open(out, '[');
	for (uint32_t i = 0; i < folders->count; i++)
		out_string(out, folders->items[i]);
	out_close(out, '[');
	return true;
}

static int parse_services(const json_t *json, void *member, struct err *err)
{
	if (!json_is_object(json))
		return err_set(err, -EINVAL, NULL, "found %s, allowed is an object of services by name",
			field_json_kind(json));
	json_decref(*(json_t **)member);
	*(json_t **)member = json_deep_copy(json);
	return *(json_t **)member ? 0 : err_set(err, -ENOMEM, NULL, "out of memory");
}

// "FIRST-LAST", decimal or with 0x, or "none".
static int parse_marks(const json_t *json, void *member, struct err *err)
{
	struct config_marks *marks = member;
	const char *text = json_string_value(json);
	unsigned long long first = 0, last = 0;
	char *end = NULL;

	*marks = (struct config_marks) { 0 };
	if (text && strcmp(text, "none") == 0)
		return 0;
	if (text && *text >= '0' && *text <= '9') {
		first = strtoull(text, &end, 0);
		if (*end == '-' && end[1] >= '0' && end[1] <= '9')
			last = strtoull(end + 1, &end, 0);
	}
	if (!end || *end || !first || last < first || last > UINT32_MAX)
		return err_set(err, -EINVAL, NULL,
			"found %.40s, allowed is FIRST-LAST, two numbers from 1 to 0xffffffff, or none",
			text ? text : field_json_kind(json));
	marks->first = (uint32_t)first;
	marks->last = (uint32_t)last;
	return 0;
}

static bool print_marks(const void *member, struct out *out)
{
	const struct config_marks *marks = member;
	char text[32] = "none";

	if (marks->first)
		snprintf(text, sizeof(text), "0x%x-0x%x", marks->first, marks->last);
	out_string(out, text);
	return true;
}

#define ROW(member) .offset = offsetof(struct config, member), .size = sizeof(((struct config *)NULL)->member)

static const struct field rows[] = {
	{ "listen", FIELD_CUSTOM, ROW(listen), .parse = parse_listen, .print = print_listen,
		.def = "\"127.0.0.1:4672\"", .help = "address and port of the REST API, one or a list" },
	{ "insecure", FIELD_BOOL, ROW(insecure), .def = "false",
		.help = "allow listening beyond loopback without authentication" },
	{ "store", FIELD_STRING, ROW(store), .def = "\"/var/lib/brass/director.db\"", .help = "SQLite file" },
	{ "vip_device", FIELD_NAME, ROW(vip_device), .def = "\"brass0\"",
		.help = "device that gets the VIPs, made as a dummy when it does not exist; none: leave VIPs alone" },
	{ "resync", FIELD_DURATION, ROW(resync_ms), .min = 1000, .max = 86400000, .def = "\"1m\"",
		.help = "time between two verifications of the kernel's table" },
	{ "reap", FIELD_DURATION, ROW(reap_ms), .min = 1000, .max = (msec_t)365 * 86400000, .def = "\"10m\"",
		.help = "backends of an agent that stays lost this long are removed" },
	{ "body_max", FIELD_UINT, ROW(body_max), .min = 1024, .max = 1 << 30, .def = "4194304", .unit = "bytes",
		.help = "largest request body" },
	{ "config_max", FIELD_UINT, ROW(config_max), .min = 1024, .max = 1 << 30, .def = "67108864", .unit = "bytes",
		.help = "largest body of PUT /config" },
	{ "take_all", FIELD_BOOL, ROW(take_all), .def = "false",
		.help = "remove virtual services that others made, instead of leaving them alone" },
	{ "flush_on_exit", FIELD_BOOL, ROW(flush_on_exit), .def = "false",
		.help = "take services and VIPs out of the kernel on a clean stop" },
	{ "services", FIELD_CUSTOM, ROW(services), .parse = parse_services,
		.help = "all services and their backends, as in PUT /config; they replace what was there at each "
			"start" },
	{ "on_quorum_up", FIELD_CUSTOM, ROW(on_quorum_up), .parse = hook_parse_program, .print = hook_print_program,
		.help = "program, with its arguments, that is run when a service has its quorum (again)" },
	{ "on_quorum_down", FIELD_CUSTOM, ROW(on_quorum_down), .parse = hook_parse_program, .print = hook_print_program,
		.help = "the same when a service has lost it" },
	{ "ipvs", FIELD_OBJECT, ROW(ipvs), .sub = &settings_fields,
		.help = "settings of the kernel's IPVS, and timeouts; those that are not given are left as they are" },
	{ "sync", FIELD_OBJECT, ROW(sync), .sub = &sync_fields,
		.help = "sync daemons, master and backup; when it is given, PUT /sync is refused" },
	{ "probe_marks", FIELD_CUSTOM, ROW(probe_marks), .parse = parse_marks, .print = print_marks,
		.def = "\"0x42000000-0x42ffffff\"",
		.help = "firewall marks of checks that take the path of traffic, FIRST-LAST; none: checks go to the "
			"real "
			"servers' own addresses" },
	{ "probe_settings", FIELD_BOOL, ROW(probe_settings), .def = "true",
		.help = "set accept_local, and rp_filter 2 where it is 1, on devices where answers to such checks come "
			"in; false: only say what is missing" },
	{ "check_programs", FIELD_CUSTOM, ROW(check_programs), .parse = parse_folders, .print = print_folders,
		.def = "[]",
		.help = "folders whose programs pulses of type exec may run, as this daemon's user; none: no such "
			"pulses" },
	{ "log_level", FIELD_CHOICE, ROW(log_level), .choices = options_log_levels, .def = "\"info\"",
		.help = "least urgent lines that are logged" },
};

const struct field_table config_fields = {
	.what = "director configuration",
	.rows = rows,
	.count = ARRAY_SIZE(rows),
	.size = sizeof(struct config),
	.set_offset = offsetof(struct config, set),
};

static void first_mistake(void *ctx, const struct err *mistake)
{
	struct err *err = ctx;

	if (!*err->text)
		*err = *mistake;
}

// As far as it can be told without what agents have registered.
static int check_services(const struct config *config, struct err *err)
{
	struct state nothing = { .folders = &config->check_programs };
	struct err mistake = { 0 };
	json_t *services = json_deep_copy(config->services); // it is taken apart
	const struct state_document document = {
		.services = services,
		.dry_run = true,
		.mistake = first_mistake,
		.ctx = &mistake,
	};
	int rc = services ? state_put_document(&nothing, &document, err) : -ENOMEM;

	json_decref(services);
	if (rc && *mistake.text && err)
		*err = mistake;
	return rc;
}

static int check(void *obj, struct err *err)
{
	struct config *config = obj;

	for (size_t i = 0; i < config->listen.count && !config->insecure; i++) {
		char text[INET_ENDPOINT_MAX];

		if (!inet_addr_is_loopback(&config->listen.endpoints[i].addr))
			return err_set(err, -EINVAL, "listen",
				"%s is not on loopback and there is no authentication yet: set \"insecure: true\" to "
				"allow "
				"everybody who can reach it to change everything",
				inet_endpoint_format(&config->listen.endpoints[i], text));
	}
	if (strlen(config->store) == 0)
		return err_set(err, -EINVAL, "store", "found nothing, allowed is the path of a file");
	int rc = sync_check(&config->sync, err);

	if (rc)
		err_prefix(err, "sync");
	return !rc && config->services ? check_services(config, err) : rc;
}

void config_clear(struct config *config)
{
	json_decref(config->services);
	config->services = NULL;
}

int config_read(const char *path, const json_t *options, struct config *ret, char message[CONFILE_MESSAGE_MAX])
{
	return confile_configure(path, options, &config_fields, check, ret, message);
}
