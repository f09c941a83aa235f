// SPDX-License-Identifier: Apache-2.0
// One option of ipvsadm(8) is one row: where its value goes, and how.
#include "director/cli/import.h"

#include "shared/inet.h"
#include "shared/util.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

struct line {
	json_t *services;
	json_t *made;    // names of those that came from this text
	bool is_service; // -A, else -a
	json_t *object;  // what the line makes
	char service[80], backend[80];
	bool is_ipv6;
	char why[200];
};

static bool refuse(struct line *line, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(struct line *line, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(line->why, sizeof(line->why), fmt, args);
	va_end(args);
	return false;
}

static bool set_string(struct line *line, const char *key, const char *value)
{
	return json_object_set_new(line->object, key, json_string(value)) == 0 ||
		refuse(line, "the value of %s is not valid UTF-8", key);
}

static bool read_number(struct line *line, const char *value, uint32_t *ret)
{
	char *end;

	errno = 0;
	unsigned long n = strtoul(value, &end, 10);
	// strtoul takes blanks and signs
	if (errno || *value < '0' || *value > '9' || *end || n > UINT32_MAX)
		return refuse(line, "\"%.40s\" is no number", value);
	*ret = (uint32_t)n;
	return true;
}

static bool set_number(struct line *line, const char *key, const char *value)
{
	uint32_t n;

	if (!read_number(line, value, &n))
		return false;
	json_object_set_new(line->object, key, json_integer(n));
	return true;
}

// --- where a service is ---

static bool read_vip(struct line *line, const char *protocol, const char *value)
{
	struct inet_endpoint vip;
	char addr[INET_ADDR_MAX];

	if (inet_endpoint_parse(value, 0, &vip))
		return refuse(line, "\"%.60s\" is no ADDRESS:PORT in numbers; use ipvsadm -Sn", value);
	inet_addr_format(&vip.addr, addr);
	snprintf(line->service, sizeof(line->service), "%s-%s-%u", protocol, addr, vip.port);
	if (!line->is_service)
		return true;
	set_string(line, "host", addr);
	json_object_set_new(line->object, "port", json_integer(vip.port));
	if (strcmp(protocol, "tcp") != 0)
		return set_string(line, "protocol", protocol);
	return true;
}

static bool take_tcp(struct line *line, const char *value)
{
	return read_vip(line, "tcp", value);
}

static bool take_udp(struct line *line, const char *value)
{
	return read_vip(line, "udp", value);
}

static bool take_sctp(struct line *line, const char *value)
{
	return read_vip(line, "sctp", value);
}

static bool take_fwmark(struct line *line, const char *value)
{
	uint32_t mark;

	if (!read_number(line, value, &mark))
		return false;
	snprintf(line->service, sizeof(line->service), "fwmark-%u", mark);
	if (line->is_service)
		json_object_set_new(line->object, "fwmark", json_integer(mark));
	return true;
}

// --- options of services ---

static bool take_ipv6(struct line *line, const char *value)
{
	(void)value;
	line->is_ipv6 = true;
	if (line->is_service)
		return set_string(line, "family", "ipv6");
	return true;
}

static bool take_scheduler(struct line *line, const char *value)
{
	// which have a fallback of ours unless flags are given
	if ((strcmp(value, "mh") == 0 || strcmp(value, "sh") == 0) && !json_object_get(line->object, "flags"))
		set_string(line, "flags", "none");
	return set_string(line, "method", value);
}

static bool take_flags(struct line *line, const char *value)
{
	return set_string(line, "flags", value);
}

static bool take_persistent(struct line *line, const char *value)
{
	char text[16];
	uint32_t seconds;

	if (!read_number(line, value, &seconds))
		return false;
	snprintf(text, sizeof(text), "%us", seconds);
	json_object_set_new(line->object, "persistent", seconds == 300 ? json_true() : json_string(text));
	return true;
}

static bool take_netmask(struct line *line, const char *value)
{
	return set_string(line, "netmask", value);
}

static bool take_engine(struct line *line, const char *value)
{
	return set_string(line, "pe", value);
}

static bool take_ops(struct line *line, const char *value)
{
	(void)value;
	json_object_set_new(line->object, "ops", json_true());
	return true;
}

// --- options of destinations ---

static bool take_rip(struct line *line, const char *value)
{
	struct inet_endpoint rip;
	char addr[INET_ADDR_MAX];

	if (inet_endpoint_parse(value, 0, &rip))
		return refuse(line, "\"%.60s\" is no ADDRESS:PORT in numbers; use ipvsadm -Sn", value);
	inet_addr_format(&rip.addr, addr);
	// a name begins with a letter or a digit
	snprintf(line->backend, sizeof(line->backend), "%s%s-%u", *addr == ':' ? "b" : "", addr, rip.port);
	set_string(line, "host", addr);
	json_object_set_new(line->object, "port", json_integer(rip.port));
	return true;
}

static bool take_dr(struct line *line, const char *value)
{
	(void)value;
	return set_string(line, "method", "dr");
}

static bool take_tunnel(struct line *line, const char *value)
{
	(void)value;
	return set_string(line, "method", "ipip");
}

static bool take_nat(struct line *line, const char *value)
{
	(void)value;
	return set_string(line, "method", "nat");
}

static bool take_weight(struct line *line, const char *value)
{
	return set_number(line, "weight", value);
}

static bool take_upper(struct line *line, const char *value)
{
	return set_number(line, "upper", value);
}

static bool take_lower(struct line *line, const char *value)
{
	return set_number(line, "lower", value);
}

static json_t *tunnel_of(struct line *line)
{
	json_t *tunnel = json_object_get(line->object, "tunnel");

	if (!tunnel)
		json_object_set_new(line->object, "tunnel", tunnel = json_object());
	return tunnel;
}

static bool take_tunnel_type(struct line *line, const char *value)
{
	return set_string(line, "method", value);
}

static bool take_tunnel_port(struct line *line, const char *value)
{
	uint32_t port;

	if (!read_number(line, value, &port))
		return false;
	json_object_set_new(tunnel_of(line), "port", json_integer(port));
	return true;
}

static bool take_checksum(struct line *line, const char *value)
{
	(void)value;
	json_object_set_new(tunnel_of(line), "checksum", json_string("on"));
	return true;
}

static bool take_no_checksum(struct line *line, const char *value)
{
	(void)line, (void)value;
	return true;
}

static bool take_remote_checksum(struct line *line, const char *value)
{
	(void)value;
	json_object_set_new(tunnel_of(line), "checksum", json_string("remote"));
	return true;
}

static const struct {
	const char *name, *other;
	bool has_value, of_service, of_destination;
	bool (*take)(struct line *line, const char *value);
} options[] = {
	{ "-t", "--tcp-service", true, true, true, take_tcp },
	{ "-u", "--udp-service", true, true, true, take_udp },
	{ "--sctp-service", NULL, true, true, true, take_sctp },
	{ "-f", "--fwmark-service", true, true, true, take_fwmark },
	{ "-6", "--ipv6", false, true, true, take_ipv6 },
	{ "-s", "--scheduler", true, true, false, take_scheduler },
	{ "-b", "--sched-flags", true, true, false, take_flags },
	{ "-p", "--persistent", true, true, false, take_persistent },
	{ "-M", "--netmask", true, true, false, take_netmask },
	{ "--pe", NULL, true, true, false, take_engine },
	{ "-o", "--ops", false, true, false, take_ops },
	{ "-r", "--real-server", true, false, true, take_rip },
	{ "-g", "--gatewaying", false, false, true, take_dr },
	{ "-i", "--ipip", false, false, true, take_tunnel },
	{ "-m", "--masquerading", false, false, true, take_nat },
	{ "-w", "--weight", true, false, true, take_weight },
	{ "-x", "--u-threshold", true, false, true, take_upper },
	{ "-y", "--l-threshold", true, false, true, take_lower },
	{ "--tun-type", NULL, true, false, true, take_tunnel_type },
	{ "--tun-port", NULL, true, false, true, take_tunnel_port },
	{ "--tun-csum", NULL, false, false, true, take_checksum },
	{ "--tun-nocsum", NULL, false, false, true, take_no_checksum },
	{ "--tun-remcsum", NULL, false, false, true, take_remote_checksum },
};

static bool take_option(struct line *line, const char *word, char **rest)
{
	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (strcmp(word, options[i].name) != 0 && (!options[i].other || strcmp(word, options[i].other) != 0))
			continue;
		if (line->is_service ? !options[i].of_service : !options[i].of_destination)
			break;
		const char *value = options[i].has_value ? strsep(rest, " \t") : "";

		if (!value || (options[i].has_value && !*value))
			return refuse(line, "%s needs a value", word);
		return options[i].take(line, value);
	}
	return refuse(line, "%.40s is not known here", word);
}

// Families are told apart by -6, which may come after the mark.
static void finish_names(struct line *line)
{
	if (line->is_ipv6 && strncmp(line->service, "fwmark-", 7) == 0) {
		char number[40];

		snprintf(number, sizeof(number), "%.30s", line->service + 7);
		snprintf(line->service, sizeof(line->service), "fwmark6-%s", number);
	}
	// of a firewall mark, and of all ports, packets keep their port
	if (!line->is_service && json_integer_value(json_object_get(line->object, "port")) == 0)
		json_object_del(line->object, "port");
}

static bool same_field(const json_t *a, const json_t *b, const char *key, const char *otherwise)
{
	const json_t *left = json_object_get(a, key), *right = json_object_get(b, key);
	const char *l = left ? json_string_value(left) : otherwise, *r = right ? json_string_value(right) : otherwise;

	if (l && r)
		return strcmp(l, r) == 0;
	return left == right || (left && right && json_equal(left, right));
}

// The service of the document that is the same to the kernel, by whatever name.
static const char *same_service(const json_t *services, const json_t *object)
{
	const char *name;
	json_t *other;

	json_object_foreach ((json_t *)(uintptr_t)services, name, other)
		if (other != object && same_field(other, object, "host", NULL) &&
			same_field(other, object, "port", NULL) && same_field(other, object, "protocol", "tcp") &&
			same_field(other, object, "fwmark", NULL) &&
			(!json_object_get(object, "fwmark") || same_field(other, object, "family", "ipv4")))
			return name;
	return NULL;
}

static bool add(struct line *line)
{
	json_t *service = json_object_get(line->services, line->service);
	const char *other = line->is_service ? same_service(line->services, line->object) : NULL;

	if (!*line->service)
		return refuse(line, "it names no service");
	if (line->is_service) {
		if (other || service)
			return refuse(line, "service %s is there already", other ? other : line->service);
		json_object_set(line->services, line->service, line->object);
		json_object_set_new(line->made, line->service, json_true());
		return true;
	}
	if (!service || !json_object_get(line->made, line->service))
		return refuse(line, "its service was not taken");
	if (!*line->backend)
		return refuse(line, "it names no real server");
	json_t *backends = json_object_get(service, "backends"), *pulse = json_object();

	json_object_set_new(pulse, "type", json_string("none"));
	json_object_set_new(line->object, "pulse", pulse);
	if (!backends)
		json_object_set_new(service, "backends", backends = json_object());
	json_object_set(backends, line->backend, line->object);
	return true;
}

static bool take_line(struct line *line, char *text)
{
	char *rest = text, *word = strsep(&rest, " \t");

	line->is_service = strcmp(word, "-A") == 0 || strcmp(word, "--add-service") == 0;
	if (!line->is_service && strcmp(word, "-a") != 0 && strcmp(word, "--add-server") != 0)
		return refuse(line, "it begins with \"%.40s\", known are -A and -a", word);
	while ((word = strsep(&rest, " \t")))
		if (*word && !take_option(line, word, &rest))
			return false;
	finish_names(line);
	return add(line);
}

int import_table(
	const char *text, json_t *services, void (*refused)(void *ctx, size_t line, const char *why), void *ctx)
{
	_cleanup_free_ char *copy = strdup(text);
	json_t *made = json_object();
	char *rest = copy, *one;
	size_t number = 0;
	int taken = 0;

	if (!copy || !made) {
		json_decref(made);
		return -ENOMEM;
	}
	while ((one = strsep(&rest, "\n"))) {
		struct line line = { .services = services, .made = made };
		size_t len = strlen(one);

		number++;
		while (len && (one[len - 1] == '\r' || one[len - 1] == ' '))
			one[--len] = '\0';
		if (!len || *one == '#')
			continue;
		line.object = json_object();
		if (!line.object) {
			taken = -ENOMEM;
			break;
		}
		if (take_line(&line, one))
			taken++;
		else
			refused(ctx, number, line.why);
		json_decref(line.object);
	}
	json_decref(made);
	return taken;
}
