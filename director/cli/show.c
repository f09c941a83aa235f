// SPDX-License-Identifier: Apache-2.0
// Each table is an array of columns; a column knows the field that it shows and the function that writes it as text. A
// function that writes nothing leaves "-".
#include "director/cli/show.h"

#include "director/cli/table.h"
#include "director/cli/text.h"
#include "shared/util.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define FIELD_NAME_MAX 32

// One object of the answer: a service, a backend of `parent`, an agent.
struct item {
	const char *parent, *name;
	const json_t *json;
};

struct column {
	const char *title;
	bool right;
	void (*write)(FILE *out, const struct item *item, const char *path);
	const char *path; // "stats.in_bytes"
};

// The value at a dotted path, NULL when there is none.
static const json_t *value_at(const json_t *json, const char *path)
{
	while (json && *path) {
		size_t n = strcspn(path, ".");
		char name[FIELD_NAME_MAX];

		snprintf(name, sizeof(name), "%.*s", (int)n, path);
		json = json_object_get(json, name);
		path += path[n] ? n + 1 : n;
	}
	return json;
}

static const char *string_at(const json_t *json, const char *path)
{
	return json_string_value(value_at(json, path));
}

static void write_value(FILE *out, const json_t *value)
{
	if (json_is_string(value))
		fputs(json_string_value(value), out);
	else if (json_is_integer(value))
		fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
	else if (json_is_real(value))
		fprintf(out, "%.1f", json_real_value(value));
	else if (json_is_boolean(value))
		fputs(json_is_true(value) ? "yes" : "no", out);
}

static void write_field(FILE *out, const struct item *item, const char *path)
{
	write_value(out, value_at(item->json, path));
}

static void write_name(FILE *out, const struct item *item, const char *path)
{
	(void)path;
	fputs(item->name, out);
}

static void write_parent(FILE *out, const struct item *item, const char *path)
{
	(void)path;
	fputs(item->parent, out);
}

static void write_amount(FILE *out, const struct item *item, const char *path)
{
	const json_t *value = value_at(item->json, path);
	char buf[TEXT_AMOUNT_MAX];

	if (json_is_integer(value) && json_integer_value(value) >= 0)
		fputs(text_amount((uint64_t)json_integer_value(value), buf), out);
}

// options.host and options.port
static void write_endpoint(FILE *out, const struct item *item, const char *path)
{
	const json_t *options = value_at(item->json, path);
	const char *host = string_at(options, "host");
	bool brackets = host && strchr(host, ':');

	if (!host && json_is_integer(value_at(options, "fwmark"))) {
		fprintf(out, "fwmark %" JSON_INTEGER_FORMAT, json_integer_value(value_at(options, "fwmark")));
		return;
	}
	if (!host)
		return;
	fprintf(out, "%s%s%s:", brackets ? "[" : "", host, brackets ? "]" : "");
	if (json_is_integer(value_at(options, "port")))
		write_value(out, value_at(options, "port"));
	else
		putc('-', out);
}

// Backends that are up, of all. Without expand the API gives only their names.
static void write_up(FILE *out, const struct item *item, const char *path)
{
	json_t *backends = json_object_get(item->json, path), *backend;
	const char *name;
	size_t up = 0;

	if (json_is_array(backends))
		fprintf(out, "-/%zu", json_array_size(backends));
	if (!json_is_object(backends))
		return;
	json_object_foreach (backends, name, backend) {
		const char *status = string_at(backend, "status");

		up += status && strcmp(status, "up") == 0;
	}
	fprintf(out, "%zu/%zu", up, json_object_size(backends));
}

// Connections that are established now: the sum over the backends.
static void write_active(FILE *out, const struct item *item, const char *path)
{
	json_t *backends = json_object_get(item->json, "backends"), *backend;
	json_int_t sum = 0;
	const char *name;

	if (!json_is_object(backends))
		return;
	json_object_foreach (backends, name, backend)
		if (__builtin_add_overflow(sum, json_integer_value(json_object_get(backend, path)), &sum))
			return;
	fprintf(out, "%" JSON_INTEGER_FORMAT, sum);
}

// Weight in the kernel, which an agent or a failing pulse lowers, of the configured one.
static void write_weight(FILE *out, const struct item *item, const char *path)
{
	const json_t *effective = json_object_get(item->json, path);
	const json_t *configured = value_at(item->json, "options.weight");

	if (!json_is_integer(effective) && !json_is_integer(configured))
		return;
	if (json_is_integer(effective))
		write_value(out, effective);
	else
		putc('-', out);
	putc('/', out);
	if (json_is_integer(configured))
		write_value(out, configured);
	else
		putc('-', out);
}

static void write_percent(FILE *out, const struct item *item, const char *path)
{
	const json_t *value = value_at(item->json, path);

	if (json_is_number(value))
		fprintf(out, "%.0f%%", 100 * json_number_value(value));
}

// A count since the service was made and the same per second now: "connections", "connections_rate".
static void write_rate(FILE *out, const struct item *item, const char *path)
{
	char rate[FIELD_NAME_MAX * 2];

	snprintf(rate, sizeof(rate), "%s_rate", path);
	write_amount(out, item, path);
	if (json_is_integer(value_at(item->json, rate))) {
		fputs(" (", out);
		write_amount(out, item, rate);
		fputs("/s)", out);
	}
}

static void write_lease(FILE *out, const struct item *item, const char *path)
{
	const json_t *left = json_object_get(item->json, path), *ttl = json_object_get(item->json, "ttl");

	if (json_is_true(json_object_get(item->json, "lost"))) {
		fputs("lost", out);
		return;
	}
	write_value(out, left);
	if (left && ttl) {
		fputs(" of ", out);
		write_value(out, ttl);
	}
}

static int compare_names(const void *a, const void *b)
{
	return strverscmp(((const struct item *)a)->name, ((const struct item *)b)->name);
}

// The members of an object, sorted by name. *ret is the caller's to free, the strings are the object's.
static int list_items(const json_t *object, const char *parent, struct item **ret, size_t *ret_count)
{
	size_t count = json_object_size(object), i = 0;
	struct item *items = calloc(count + 1, sizeof(*items));
	const char *name;
	json_t *json;

	if (!items)
		return -ENOMEM;
	json_object_foreach ((json_t *)object, name, json)
		items[i++] = (struct item) { parent, name, json };
	qsort(items, count, sizeof(*items), compare_names);
	*ret = items;
	*ret_count = count;
	return 0;
}

static void write_registered(FILE *out, const struct item *item, const char *path)
{
	_cleanup_free_ struct item *items = NULL;
	size_t count;

	if (list_items(json_object_get(item->json, path), NULL, &items, &count) != 0)
		return;
	for (size_t i = 0; i < count; i++) {
		const char *state = string_at(items[i].json, "state");

		fprintf(out, "%s%s:%s", i ? ", " : "", items[i].name, state ? state : "-");
	}
}

static const struct column service_columns[] = {
	{ "NAME", false, write_name, NULL },
	{ "VIP", false, write_endpoint, "options" },
	{ "PROTO", false, write_field, "options.protocol" },
	{ "SCHEDULER", false, write_field, "options.method" },
	{ "BACKENDS", true, write_up, "backends" },
	{ "ACTIVE", true, write_active, "active" },
	{ "CONNS", true, write_field, "stats.connections" },
	{ "IN", true, write_amount, "stats.in_bytes" },
	{ "OUT", true, write_amount, "stats.out_bytes" },
};

// The first column is left out where all backends are of one service.
static const struct column backend_columns[] = {
	{ "SERVICE", false, write_parent, NULL },
	{ "BACKEND", false, write_name, NULL },
	{ "REAL-SERVER", false, write_endpoint, "options" },
	{ "METHOD", false, write_field, "options.method" },
	{ "WEIGHT", true, write_weight, "effective_weight" },
	{ "STATUS", false, write_field, "status" },
	{ "ACTIVE", true, write_field, "active" },
	{ "INACTIVE", true, write_field, "inactive" },
	{ "CONNS", true, write_field, "stats.connections" },
	{ "IN", true, write_amount, "stats.in_bytes" },
	{ "ORIGIN", false, write_field, "origin" },
	{ "REASON", false, write_field, "reason" },
};

static const struct column agent_columns[] = {
	{ "NODE", false, write_name, NULL },
	{ "ADDRESS", false, write_field, "address" },
	{ "LEASE", false, write_lease, "expires_in" },
	{ "SERVICES", false, write_registered, "backends" },
};

// The head of `brass service`: one line each.
static const struct column service_lines[] = {
	{ "Service:", false, write_name, NULL },
	{ "VIP:", false, write_endpoint, "options" },
	{ "Protocol:", false, write_field, "options.protocol" },
	{ "Scheduler:", false, write_field, "options.method" },
	{ "Flags:", false, write_field, "options.flags" },
	{ "Persistence:", false, write_field, "options.persistent" },
	{ "One-packet:", false, write_field, "options.ops" },
	{ "Pulse:", false, write_field, "options.pulse.type" },
	{ "Health:", false, write_percent, "health" },
	{ "Backends up:", false, write_up, "backends" },
	{ "Active:", false, write_active, "active" },
	{ "Connections:", false, write_rate, "stats.connections" },
	{ "Bytes in:", false, write_rate, "stats.in_bytes" },
	{ "Bytes out:", false, write_rate, "stats.out_bytes" },
};

// What the column says of the item; "" is nothing. The caller frees it.
static char *cell_text(const struct column *column, const struct item *item)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	column->write(out, item, column->path);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static struct table *new_table(const struct column *columns, size_t count)
{
	struct table *table = table_new();

	for (size_t i = 0; table && i < count; i++)
		table_column(table, columns[i].title, columns[i].right);
	return table;
}

// A row for each member of object.
static int add_rows(
	struct table *table, const struct column *columns, size_t count, const json_t *object, const char *parent)
{
	_cleanup_free_ struct item *items = NULL;
	size_t item_count;
	int rc = list_items(object, parent, &items, &item_count);

	for (size_t i = 0; rc == 0 && i < item_count; i++)
		for (size_t j = 0; j < count; j++) {
			_cleanup_free_ char *text = cell_text(&columns[j], &items[i]);

			if (!text)
				return -ENOMEM;
			table_cell(table, text);
		}
	return rc;
}

static int show_table(const struct column *columns, size_t count, const json_t *object, const char *parent, FILE *out)
{
	_cleanup_(table_free_cleanup) struct table *table = new_table(columns, count);
	int rc = table ? add_rows(table, columns, count, object, parent) : -ENOMEM;

	return rc ? rc : table_print(table, out);
}

static int show_services(const json_t *answer, const char *argument, FILE *out)
{
	(void)argument;
	return show_table(service_columns, ARRAY_SIZE(service_columns), answer, NULL, out);
}

static int show_service(const json_t *answer, const char *name, FILE *out)
{
	const struct item item = { NULL, name, answer };

	for (size_t i = 0; i < ARRAY_SIZE(service_lines); i++) {
		_cleanup_free_ char *text = cell_text(&service_lines[i], &item);
		_cleanup_free_ char *clean = text ? text_clean(text) : NULL;

		if (!clean)
			return -ENOMEM;
		fprintf(out, "%-13s %s\n", service_lines[i].title, *clean ? clean : "-");
	}
	putc('\n', out);
	return show_table(
		backend_columns + 1, ARRAY_SIZE(backend_columns) - 1, json_object_get(answer, "backends"), name, out);
}

static int show_backends(const json_t *answer, const char *name, FILE *out)
{
	_cleanup_(table_free_cleanup) struct table *table = new_table(backend_columns, ARRAY_SIZE(backend_columns));
	_cleanup_free_ struct item *services = NULL;
	size_t count;
	int rc;

	if (name)
		return show_table(
			backend_columns, ARRAY_SIZE(backend_columns), json_object_get(answer, "backends"), name, out);
	rc = table ? list_items(answer, NULL, &services, &count) : -ENOMEM;
	if (rc)
		return rc;
	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = add_rows(table, backend_columns, ARRAY_SIZE(backend_columns),
			json_object_get(services[i].json, "backends"), services[i].name);
	return rc ? rc : table_print(table, out);
}

static int show_agents(const json_t *answer, const char *argument, FILE *out)
{
	(void)argument;
	return show_table(agent_columns, ARRAY_SIZE(agent_columns), answer, NULL, out);
}

static json_int_t number(const json_t *object, const char *key)
{
	return json_integer_value(json_object_get(object, key));
}

static int show_summary(const json_t *answer, const char *argument, FILE *out)
{
	(void)argument;
	fprintf(out,
		"%" JSON_INTEGER_FORMAT " added, %" JSON_INTEGER_FORMAT " changed, %" JSON_INTEGER_FORMAT " deleted\n",
		number(answer, "added"), number(answer, "changed"), number(answer, "deleted"));
	return 0;
}

static int show_plan(const json_t *answer, const char *argument, FILE *out)
{
	static const struct column columns[] = {
		{ "ACTION", false, write_field, "action" },
		{ "SERVICE", false, write_field, "service" },
		{ "BACKEND", false, write_field, "backend" },
		{ "CONNS", true, write_field, "connections" },
		{ "FIELDS", false, write_field, "fields" },
	};
	_cleanup_(table_free_cleanup) struct table *table = new_table(columns, ARRAY_SIZE(columns));
	const json_t *plan = json_object_get(answer, "plan"), *step;
	size_t i;

	if (!json_array_size(plan))
		return show_summary(answer, argument, out);
	if (!table)
		return -ENOMEM;
	json_array_foreach (plan, i, step) {
		const struct item item = { NULL, "", step };

		for (size_t j = 0; j < ARRAY_SIZE(columns); j++) {
			_cleanup_free_ char *text = cell_text(&columns[j], &item);

			if (!text)
				return -ENOMEM;
			table_cell(table, text);
		}
	}
	int rc = table_print(table, out);
	putc('\n', out);
	return rc ? rc : show_summary(answer, argument, out);
}

static int show_drain(const json_t *answer, const char *argument, FILE *out)
{
	const json_t *drain = json_object_get(answer, "drain");

	if (drain)
		fprintf(out, "%s: draining, %" JSON_INTEGER_FORMAT " connections, %s left\n", argument,
			number(drain, "active"), json_string_value(json_object_get(drain, "left")));
	else if (json_is_true(json_object_get(answer, "leaving")))
		fprintf(out, "%s: draining, all of its backends\n", argument);
	else
		fprintf(out, "%s: %s\n", argument, json_object_size(answer) ? "stays" : "gone");
	return 0;
}

static void __attribute__((format(printf, 2, 3))) print_line(FILE *out, const char *fmt, ...)
{
	char line[1024];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	_cleanup_free_ char *clean = text_clean(line);
	fprintf(out, "%s\n", clean ? clean : "");
}

// The backend as it is, what each probe has seen, and what follows from it.
static int show_why(const json_t *answer, const char *argument, FILE *out)
{
	static const struct {
		const char *name, *title;
	} rows[] = {
		{ "rip", "its own address" },
		{ "rip_other_port", "its own address, another port" },
		{ "vip", "along the path of traffic" },
		{ "vip_other_port", "along the path, another port" },
		{ "vip_full_size", "along the path, full-size" },
	};
	const json_t *diagnosis = json_object_get(answer, "diagnosis");
	const char *status = string_at(answer, "status"), *reason = string_at(answer, "reason");
	const char *text = string_at(diagnosis, "text"), *agent = string_at(answer, "node");
	const char *problem = string_at(answer, "via_problem"), *check = string_at(answer, "check_problem");

	print_line(out, "%s: %s%s%s", argument, status ? status : "-", reason ? ": " : "", reason ? reason : "");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *seen = string_at(diagnosis, rows[i].name);

		if (seen)
			print_line(out, "  %-31s %s", rows[i].title, seen);
	}
	if (json_is_integer(value_at(diagnosis, "full_size")))
		fprintf(out, "  %-31s %" JSON_INTEGER_FORMAT " bytes\n", "largest packet of a client",
			json_integer_value(value_at(diagnosis, "full_size")));
	if (agent)
		print_line(out, "  %-31s %s", "its agent", agent);
	if (problem)
		print_line(out, "checks cannot go along the path: %s", problem);
	if (check)
		print_line(out, "it cannot be checked, and stays as it was: %s", check);
	print_line(out, "%s", text ? text : "this director does not say why");
	return 0;
}

static const char *word(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

void show_event(const json_t *event, FILE *out)
{
	const char *agent = word(event, "agent"), *backend = word(event, "backend"), *old = word(event, "old");
	const char *what = word(event, "what"), *reason = word(event, "reason");
	const bool plain = strcmp(what, "status") == 0 || strcmp(what, "lease") == 0;
	char *line = NULL;
	size_t len;
	FILE *text = open_memstream(&line, &len);

	if (!text)
		return;
	fprintf(text, "%s  %s%s%s%s  %s%s%s%s%s%s%s", word(event, "time"), *agent ? "agent " : "",
		*agent ? agent : word(event, "service"), *backend ? "/" : "", backend, plain ? "" : what,
		plain ? "" : " ", old, *old ? " -> " : "", word(event, "new"), *reason ? ": " : "", reason);
	if (fclose(text) == 0) {
		_cleanup_free_ char *clean = text_clean(line);

		fprintf(out, "%s\n", clean ? clean : "");
	}
	free(line);
}

static int show_events(const json_t *answer, const char *argument, FILE *out)
{
	const json_t *event;
	size_t i;

	(void)argument;
	json_array_foreach (answer, i, event)
		show_event(event, out);
	return 0;
}

const struct command commands[] = {
	{ "services", NULL, NULL, "GET", "service", "expand=1", COMMAND_SHOW, show_services, "all virtual services" },
	{ "service", "NAME", NULL, "GET", "service", "expand=1", COMMAND_SHOW, show_service,
		"one virtual service and its backends" },
	{ "backends", "[SERVICE]", NULL, "GET", "service", "expand=1", COMMAND_SHOW, show_backends,
		"all backends, or those of one service" },
	{ "agents", NULL, NULL, "GET", "agent", NULL, COMMAND_SHOW, show_agents,
		"agents, their leases and what they registered" },
	{ "why", "SERVICE", "BACKEND", "GET", "service", "why=1", COMMAND_PAIR, show_why,
		"probes a backend now and says what is wrong with it" },
	{ "events", NULL, NULL, "GET", "events", NULL, COMMAND_EVENTS, show_events,
		"what has happened; with --follow what happens" },
	{ "drain", "SERVICE[/BACKEND]", "TIME", "DELETE", "service", "drain=", COMMAND_SHOW, show_drain,
		"no new connections; deleted when the open ones have ended, at the latest after TIME" },
	{ "undrain", "SERVICE[/BACKEND]", NULL, "DELETE", "service", "drain=cancel", COMMAND_SHOW, show_drain,
		"takes a drain back" },
	{ "diff", "FILE", NULL, "PUT", "config", "dry_run=1", COMMAND_APPLY, show_plan, "what apply would change" },
	{ "apply", "FILE", NULL, "PUT", "config", NULL, COMMAND_APPLY, show_summary,
		"replaces all services by those of a YAML or JSON file, - for standard input" },
	{ "export", NULL, NULL, "GET", "config", NULL, COMMAND_EXPORT, NULL, "all services as such a file" },
	{ "import", "FILE", NULL, "PUT", "config", NULL, COMMAND_IMPORT, show_summary,
		"adds the services that ipvsadm -Sn printed" },
};
const size_t command_count = ARRAY_SIZE(commands);

bool command_needs_argument(const struct command *command)
{
	return command->argument && command->argument[0] != '[';
}
