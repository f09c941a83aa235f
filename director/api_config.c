// SPDX-License-Identifier: Apache-2.0
// GET|PUT /config: all services and backends as one document, YAML or JSON. What agents made is not in it, nor what is
// on its way out.
#include "director/api.h"

#include "shared/confile.h"
#include "shared/slices.h"
#include "shared/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MISTAKES_MAX 100 // that are listed

static bool is_yaml(const char *type)
{
	static const char *const types[] = { "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml",
		"text/vnd.yaml" };

	for (size_t i = 0; type && i < ARRAY_SIZE(types); i++)
		if (strncasecmp(type, types[i], strlen(types[i])) == 0)
			return true;
	return false;
}

// --- giving it ---

struct walk {
	struct api *api;
	struct model_cursor cursor;
	bool yaml, begun;
	const struct service *inside; // the service that is open in the text
	bool has_backends;            // its "backends" is open, too
};

static void walk_free(void *stream_ctx)
{
	struct walk *walk = stream_ctx;

	model_cursor_stop(&walk->cursor, &walk->api->state->model);
	free(walk);
}

// A name and its options, as far as they were given, in the document's language. JSON: the object stays open.
static void write_object(struct walk *walk, struct out *out, const char *name, const struct field_table *table,
	const void *options, int depth)
{
	if (!walk->yaml) {
		out_key(out, name);
		out_open(out, '{');
		field_write_members(table, options, FIELD_GIVEN, out);
		return;
	}
	_cleanup_out_ struct out text = { 0 };
	field_write(table, options, FIELD_GIVEN, &text);
	json_t *json = text.failed ? NULL : json_loadb(text.text, text.len, 0, NULL);

	out_format(out, "%*s", depth, "");
	confile_write_string(name, out);
	out_bytes(out, ":", 1);
	if (json)
		confile_write(json, depth < 4, depth + 2, out);
	else
		out->failed = true;
	out_bytes(out, "\n", 1);
	json_decref(json);
}

static void leave_service(struct walk *walk, struct out *out)
{
	if (!walk->yaml && walk->has_backends)
		out_close(out, '{');
	if (!walk->yaml)
		out_close(out, '{');
	walk->inside = NULL;
	walk->has_backends = false;
}

static void write_backend(struct walk *walk, struct out *out, const struct backend *backend)
{
	struct backend_options options;

	if (backend->agent || backend->drain)
		return;
	if (!walk->has_backends && walk->yaml) {
		out_text(out, "    backends:\n");
	} else if (!walk->has_backends) {
		out_key(out, "backends");
		out_open(out, '{');
	}
	walk->has_backends = true;
	model_backend_options(backend, &options);
	write_object(walk, out, backend->name, &backend_fields, &options, 6);
	if (!walk->yaml)
		out_close(out, '{');
}

static void step(struct walk *walk, struct out *out)
{
	const struct service *service = walk->cursor.service;
	const struct backend *backend = walk->cursor.backend;
	struct service_options options;

	if (service->leaving) {
		model_cursor_advance(&walk->cursor);
	} else if (!walk->inside) {
		model_service_options(service, &options);
		write_object(walk, out, service->name, &service_fields, &options, 2);
		walk->inside = service;
	} else if (backend) {
		write_backend(walk, out, backend);
		walk->cursor.backend = backend->next;
	} else {
		leave_service(walk, out);
		model_cursor_advance(&walk->cursor);
	}
}

static bool walk_next(void *stream_ctx, struct out *out)
{
	struct walk *walk = stream_ctx;

	if (!walk->begun && walk->yaml) {
		out_text(out, HASH_COUNT(walk->api->state->model.services) ? "services:\n" : "services: {}\n");
	} else if (!walk->begun) {
		out_open(out, '{');
		out_key(out, "services");
		out_open(out, '{');
	}
	walk->begun = true;
	// the service that we were in was removed meanwhile, and the cursor has gone on
	if (walk->inside && walk->inside != walk->cursor.service)
		leave_service(walk, out);
	while (walk->cursor.service && out->len < HTTP_PIECE)
		step(walk, out);
	if (walk->cursor.service)
		return true;
	if (!walk->yaml) {
		out_close(out, '{');
		out_close(out, '{');
		out_bytes(out, "\n", 1);
	}
	return false;
}

void api_config_get(void *ctx, struct http_exchange *exchange)
{
	struct walk *walk = calloc(1, sizeof(*walk));

	if (!walk) {
		const struct err err = { .text = "out of memory" };

		http_answer_error(exchange, 500, &err);
		return;
	}
	walk->api = ctx;
	walk->yaml = is_yaml(http_header(exchange, "Accept"));
	model_cursor_start(&walk->cursor, &walk->api->state->model);
	http_answer_stream(exchange,
		&(struct http_stream) {
			walk->yaml ? "application/yaml" : "application/json", walk_next, walk_free, walk, false });
}

// --- taking it ---

struct answer {
	const struct confile *file; // YAML, for lines; NULL: JSON
	struct slices slices;       // JSON, service by service
	struct out mistakes, plan;
	size_t mistake_count, added, changed, deleted;
	bool tell_plan;
};

static void on_mistake(void *ctx, const struct err *err)
{
	struct answer *answer = ctx;
	unsigned int line = answer->file ? confile_line(answer->file, err->field) : 0;

	if (++answer->mistake_count > MISTAKES_MAX)
		return;
	out_open(&answer->mistakes, '{');
	out_key(&answer->mistakes, "field");
	out_string(&answer->mistakes, err->field);
	if (line) {
		out_key(&answer->mistakes, "line");
		out_uint(&answer->mistakes, line);
	}
	out_key(&answer->mistakes, "error");
	out_string(&answer->mistakes, err->text);
	out_close(&answer->mistakes, '{');
}

static void on_step(void *ctx, const struct state_step *step)
{
	struct answer *answer = ctx;
	struct out *out = &answer->plan;

	*(*step->action == 'a' ? &answer->added : *step->action == 'c' ? &answer->changed : &answer->deleted) += 1;
	if (!answer->tell_plan)
		return;
	out_open(out, '{');
	out_key(out, "action");
	out_string(out, step->action);
	out_key(out, "service");
	out_string(out, step->service);
	if (step->backend) {
		out_key(out, "backend");
		out_string(out, step->backend);
	}
	if (*step->fields) {
		out_key(out, "fields");
		out_string(out, step->fields);
	}
	if (*step->action == 'd' || step->connections) {
		out_key(out, "connections");
		out_uint(out, step->connections);
	}
	out_close(out, '{');
}

// The list that was written, with its brackets, as a value.
static void write_list(struct out *out, const char *key, struct out *list)
{
	out_key(out, key);
	out_close(list, '[');
	if (list->failed)
		out->failed = true;
	else
		out_raw(out, list->text);
}

static void answer_mistakes(struct http_exchange *exchange, struct answer *answer, const struct err *err)
{
	struct out out = { .indented = true };

	out_open(&out, '{');
	out_key(&out, "error");
	out_string(&out, err->text);
	write_list(&out, "errors", &answer->mistakes);
	out_close(&out, '{');
	http_answer_out(exchange, 400, &out);
}

static char *summary(struct answer *answer)
{
	const struct {
		const char *name;
		size_t value;
	} rows[] = { { "added", answer->added }, { "changed", answer->changed }, { "deleted", answer->deleted } };
	struct out out = { .indented = true };

	out_open(&out, '{');
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		out_key(&out, rows[i].name);
		out_uint(&out, rows[i].value);
	}
	if (answer->tell_plan)
		write_list(&out, "plan", &answer->plan);
	out_close(&out, '{');
	out_bytes(&out, "\n", 1);
	return out_steal(&out, NULL);
}

static void finish(void *ctx, struct http_exchange *exchange, int code, const struct err *err)
{
	struct api *api = ctx;
	struct err full = code ? *err : (struct err) { 0 };
	char *text = STEAL(exchange->data);

	if (!code) {
		http_answer_text(exchange, text ? 200 : 500, "application/json", text, text ? strlen(text) : 0);
		return;
	}
	free(text);
	if (*full.field && *api->state->refused_service) {
		err_prefix(&full, api->state->refused_service);
		err_prefix(&full, "services");
	} else if (*api->state->refused_service) {
		err_context(&full, "service %s: ", api->state->refused_service);
	}
	api_fail(exchange, code, &full);
}

// The document, whose services are taken out of it. NULL after a mistake that was answered.
static json_t *read_document(struct http_exchange *exchange, struct confile **ret_file)
{
	struct err err = { 0 };
	json_t *root = NULL;

	*ret_file = NULL;
	if (!is_yaml(http_header(exchange, "Content-Type"))) {
		root = api_body(exchange);
		if (!root)
			return NULL;
	} else if (confile_parse("body", exchange->body, exchange->body_len, ret_file, &err) == 0) {
		root = json_incref((*ret_file)->root);
	} else {
		err_prefix(&err, "body");
		api_fail(exchange, -EINVAL, &err);
		return NULL;
	}
	json_t *services = json_incref(json_object_get(root, "services"));
	const char *key;
	json_t *value;
	json_object_foreach (root, key, value)
		if (strcmp(key, "services") != 0 && !*err.text)
			err_set(&err, -EINVAL, key, "unknown field of a document, allowed is services");
	if (!services && !*err.text)
		err_set(&err, -EINVAL, "services", "missing; a document needs it ({} for none)");
	json_decref(root);
	if (!*err.text)
		return services;
	json_decref(services);
	api_fail(exchange, -EINVAL, &err);
	return NULL;
}

static int next_service(void *ctx, char ret_name[MODEL_NAME_MAX + 2], json_t **ret)
{
	struct answer *answer = ctx;
	struct slice key, value;

	if (!slices_next(&answer->slices, &key, &value))
		return 0;
	json_t *name = json_loadb(key.text, key.len, JSON_DECODE_ANY, NULL);
	json_t *json = json_loadb(value.text, value.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);

	if (name && json)
		snprintf(ret_name, MODEL_NAME_MAX + 2, "%s", json_string_value(name)); // one letter too many is refused
	json_decref(name);
	if (name && json) {
		*ret = json;
		return 1;
	}
	json_decref(json);
	return -EBADMSG;
}

void api_config_put(void *ctx, struct http_exchange *exchange)
{
	struct api *api = ctx;
	_cleanup_(confile_free_cleanup) struct confile *file = NULL;
	const char *dry_run = http_query(exchange, "dry_run");
	struct answer answer = { .tell_plan = dry_run && strcmp(dry_run, "0") != 0 };
	struct err err = { 0 };
	// a text that is not as plain as that is read as a whole
	const bool sliced = !is_yaml(http_header(exchange, "Content-Type")) &&
		slices_open(exchange->body, exchange->body_len, "services", &answer.slices);
	json_t *services = sliced ? NULL : read_document(exchange, &file);

	if (!sliced && !services)
		return;
	http_end_turn(exchange); // what replaces everything would hide what was refused before
	answer.file = file;
	out_open(&answer.mistakes, '[');
	out_open(&answer.plan, '[');
	const struct state_document document = {
		.services = services,
		.next = next_service,
		.dry_run = answer.tell_plan,
		.step = on_step,
		.mistake = on_mistake,
		.ctx = &answer,
	};
	int rc = state_put_document(api->state, &document, &err);

	json_decref(services);
	if (rc == -EBADMSG) {
		services = api_body(exchange); // which says what is wrong with it
		json_decref(services);
		if (services)
			api_fail(exchange, -EINVAL, &err);
	} else if (answer.mistake_count) {
		answer_mistakes(exchange, &answer, &err);
	} else {
		free(exchange->data);
		exchange->data = rc ? NULL : summary(&answer);
		api_staged(api, exchange, rc, &err, finish);
	}
	out_free(&answer.mistakes);
	out_free(&answer.plan);
}
