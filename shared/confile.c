// SPDX-License-Identifier: Apache-2.0
// libyaml's events are folded into jansson values by a small recursive reader; each field's path is remembered with its
// line, so that a validator that knows only paths can still name the line.
#include "shared/confile.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <uthash.h>
#include <yaml.h>

struct confile_line {
	UT_hash_handle hh;
	unsigned int line;
	char path[]; // key
};

struct reader {
	yaml_parser_t parser;
	struct confile *file;
	struct err *err;
	char path[ERR_FIELD_MAX];
	int depth;
};

static int refuse(struct reader *r, const yaml_mark_t *mark, const char *what)
{
	return err_set(r->err, -EINVAL, NULL, "line %zu: %s", mark->line + 1, what);
}

static int remember_line(struct reader *r, const yaml_mark_t *mark)
{
	size_t len = strlen(r->path) + 1;
	struct confile_line *line = calloc(1, sizeof(*line) + len);

	if (!line)
		return -ENOMEM;
	memcpy(line->path, r->path, len);
	line->line = (unsigned int)mark->line + 1;
	HASH_ADD_STR(r->file->lines, path, line);
	return 0;
}

static int next_event(struct reader *r, yaml_event_t *event)
{
	if (yaml_parser_parse(&r->parser, event))
		return 0;
	const char *problem = r->parser.problem ? r->parser.problem : "not valid YAML";
	// the reader reports invalid UTF-8 by byte offset, before any mark
	const yaml_mark_t *mark = r->parser.error == YAML_READER_ERROR ? &r->parser.mark : &r->parser.problem_mark;

	return refuse(r, mark, problem);
}

static bool is_number(const char *text, size_t len, bool *ret_real)
{
	size_t i = len && (text[0] == '-' || text[0] == '+'), digits = 0;

	*ret_real = false;
	for (; i < len && text[i] >= '0' && text[i] <= '9'; i++)
		digits++;
	if (i < len && text[i] == '.') {
		*ret_real = true;
		for (i++; i < len && text[i] >= '0' && text[i] <= '9'; i++)
			digits++;
	}
	if (digits && i < len && (text[i] == 'e' || text[i] == 'E')) {
		*ret_real = true;
		i++;
		i += i < len && (text[i] == '-' || text[i] == '+');
		size_t exponent = i;

		while (i < len && text[i] >= '0' && text[i] <= '9')
			i++;
		if (i == exponent)
			return false;
	}
	return digits && i == len;
}

json_t *confile_scalar(const char *text, size_t len)
{
	static const struct {
		const char *word;
		int value; // 0 false, 1 true, 2 null
	} words[] = { { "true", 1 }, { "True", 1 }, { "TRUE", 1 }, { "false", 0 }, { "False", 0 }, { "FALSE", 0 },
		{ "null", 2 }, { "Null", 2 }, { "NULL", 2 }, { "~", 2 }, { "", 2 } };
	bool real;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (len == strlen(words[i].word) && memcmp(text, words[i].word, len) == 0)
			return words[i].value == 2 ? json_null() : json_boolean(words[i].value);
	if (len < 64 && is_number(text, len, &real)) {
		char copy[64];

		memcpy(copy, text, len);
		copy[len] = '\0';
		errno = 0;
		if (real) {
			double d = strtod(copy, NULL);

			if (isfinite(d))
				return json_real(d);
		} else {
			long long n = strtoll(copy, NULL, 10);

			if (!errno)
				return json_integer(n);
		}
	}
	return json_stringn(text, len);
}

static int read_value(struct reader *r, yaml_event_t *event, json_t **ret);

// Extends r->path by one key or index for the time of reading one value.
static int read_child(struct reader *r, const char *step, const yaml_mark_t *mark, yaml_event_t *event, json_t **ret)
{
	size_t old = strlen(r->path);

	snprintf(r->path + old, sizeof(r->path) - old, "%s%s", old && *step != '[' ? "." : "", step);
	int rc = remember_line(r, mark);
	if (!rc)
		rc = read_value(r, event, ret);
	r->path[old] = '\0';
	return rc;
}

static int read_mapping(struct reader *r, json_t **ret)
{
	json_t *object = json_object();
	int rc = object ? 0 : -ENOMEM;

	while (!rc) {
		yaml_event_t key, value;
		json_t *child = NULL;

		rc = next_event(r, &key);
		if (rc)
			break;
		if (key.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&key);
			*ret = object;
			return 0;
		}
		const char *name = key.type == YAML_SCALAR_EVENT ? (const char *)key.data.scalar.value : NULL;

		if (!name || strlen(name) != key.data.scalar.length)
			rc = refuse(r, &key.start_mark, "a key must be a plain word");
		else if (key.data.scalar.length > CONFILE_KEY_MAX)
			rc = refuse(r, &key.start_mark, "a key is too long");
		else if (json_object_get(object, name))
			rc = err_set(r->err, -EINVAL, NULL, "line %zu: \"%.64s\" is there twice",
				key.start_mark.line + 1, name);
		if (!rc)
			rc = next_event(r, &value);
		if (!rc) {
			rc = read_child(r, name, &key.start_mark, &value, &child);
			yaml_event_delete(&value);
		}
		if (!rc && json_object_set_new(object, name, child) != 0)
			rc = -ENOMEM;
		yaml_event_delete(&key);
	}
	json_decref(object);
	return rc;
}

static int read_sequence(struct reader *r, json_t **ret)
{
	json_t *array = json_array();
	int rc = array ? 0 : -ENOMEM;

	while (!rc) {
		yaml_event_t item;
		json_t *child = NULL;
		char step[24];

		rc = next_event(r, &item);
		if (rc)
			break;
		if (item.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&item);
			*ret = array;
			return 0;
		}
		snprintf(step, sizeof(step), "[%zu]", json_array_size(array));
		yaml_mark_t mark = item.start_mark;

		rc = read_child(r, step, &mark, &item, &child);
		yaml_event_delete(&item);
		if (!rc && json_array_append_new(array, child) != 0)
			rc = -ENOMEM;
	}
	json_decref(array);
	return rc;
}

static int read_value(struct reader *r, yaml_event_t *event, json_t **ret)
{
	int rc;

	switch (event->type) {
	case YAML_SCALAR_EVENT: {
		const char *text = (const char *)event->data.scalar.value;
		size_t len = event->data.scalar.length;

		if (event->data.scalar.anchor)
			return refuse(r, &event->start_mark, "anchors are not used here");
		if (strlen(text) != len)
			return refuse(r, &event->start_mark, "a zero byte in a text");
		*ret = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE ? confile_scalar(text, len)
									   : json_stringn(text, len);
		return *ret ? 0 : refuse(r, &event->start_mark, "text that is not valid UTF-8");
	}
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		if (event->type == YAML_MAPPING_START_EVENT ? !!event->data.mapping_start.anchor
							    : !!event->data.sequence_start.anchor)
			return refuse(r, &event->start_mark, "anchors are not used here");
		if (r->depth >= CONFILE_DEPTH_MAX)
			return refuse(r, &event->start_mark, "nested too deeply");
		r->depth++;
		rc = event->type == YAML_MAPPING_START_EVENT ? read_mapping(r, ret) : read_sequence(r, ret);
		r->depth--;
		return rc;
	case YAML_ALIAS_EVENT:
		return refuse(r, &event->start_mark, "aliases are not used here");
	default:
		return refuse(r, &event->start_mark, "a value is missing");
	}
}

static int read_document(struct reader *r)
{
	int rc = 0;

	while (!rc) {
		yaml_event_t event;

		rc = next_event(r, &event);
		if (rc)
			return rc;
		bool end = event.type == YAML_STREAM_END_EVENT;

		switch (event.type) {
		case YAML_NO_EVENT:
		case YAML_STREAM_START_EVENT:
		case YAML_STREAM_END_EVENT:
		case YAML_DOCUMENT_END_EVENT:
			break;
		case YAML_DOCUMENT_START_EVENT:
			if (r->file->root)
				rc = refuse(r, &event.start_mark, "a second document begins; one is allowed");
			break;
		default:
			rc = read_value(r, &event, &r->file->root);
		}
		yaml_event_delete(&event);
		if (end)
			break;
	}
	if (!rc && (!r->file->root || json_is_null(r->file->root))) {
		json_decref(r->file->root);
		r->file->root = json_object();
	}
	return rc;
}

int confile_parse(const char *name, const char *text, size_t len, struct confile **ret, struct err *err)
{
	_cleanup_(confile_free_cleanup) struct confile *file = calloc(1, sizeof(*file));
	struct reader r = { .file = file, .err = err };

	if (!file || !(file->path = strdup(name)) || !yaml_parser_initialize(&r.parser))
		return err_set(err, -ENOMEM, NULL, "out of memory");
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	int rc = read_document(&r);
	yaml_parser_delete(&r.parser);
	if (rc == -ENOMEM)
		err_set(err, rc, NULL, "out of memory");
	if (!rc)
		*ret = STEAL(file);
	return rc;
}

int confile_load(const char *path, struct confile **ret, struct err *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_set(err, -errno, NULL, "cannot read %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISFIFO(st.st_mode))
		return err_set(err, -EINVAL, NULL, "cannot read %s: not a file", path);

	size_t size = 0, room = 4096;
	_cleanup_free_ char *text = malloc(room);
	while (text) {
		ssize_t n = read(fd, text + size, room - size);

		if (n < 0)
			return err_set(err, -errno, NULL, "cannot read %s: %s", path, strerror(errno));
		if (n == 0)
			break;
		size += (size_t)n;
		if (size > CONFILE_SIZE_MAX)
			return err_set(
				err, -EFBIG, NULL, "cannot read %s: larger than %u bytes", path, CONFILE_SIZE_MAX);
		if (size == room) {
			room *= 2;
			char *more = realloc(text, room);

			if (!more)
				return err_set(err, -ENOMEM, NULL, "out of memory");
			text = more;
		}
	}
	if (!text)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	int rc = confile_parse(path, text, size, ret, err);
	if (rc)
		err_context(err, "%s, ", path);
	return rc;
}

unsigned int confile_line(const struct confile *file, const char *field)
{
	char path[ERR_FIELD_MAX];
	struct confile_line *line = NULL;

	snprintf(path, sizeof(path), "%s", field);
	while (*path) {
		HASH_FIND_STR(file->lines, path, line);
		if (line)
			return line->line;
		size_t n = strlen(path);

		do
			n--;
		while (n > 0 && path[n] != '.' && path[n] != '[');
		path[n] = '\0';
	}
	return 0;
}

const char *confile_error(const struct confile *file, const struct err *err, char *buf, size_t size)
{
	char line[ERR_LINE_MAX];
	unsigned int n = confile_line(file, err->field);

	err_line(err, line, sizeof(line));
	if (n)
		snprintf(buf, size, "%s, line %u: %s", file->path, n, line);
	else
		snprintf(buf, size, "%s: %s", file->path, line);
	return buf;
}

int confile_configure(const char *path, const json_t *options, const struct field_table *table,
	int (*check)(void *obj, struct err *err), void *obj, char message[CONFILE_MESSAGE_MAX])
{
	_cleanup_(confile_free_cleanup) struct confile *file = NULL;
	struct err err = { 0 };
	int rc = path ? confile_load(path, &file, &err) : 0;

	if (rc) {
		snprintf(message, CONFILE_MESSAGE_MAX, "%s", err.text);
		return rc;
	}
	json_t *merged = file ? json_copy(file->root) : json_object();
	if (json_is_object(merged))
		json_object_update(merged, (json_t *)(uintptr_t)options);
	rc = merged ? field_parse(table, merged, obj, &err) : err_set(&err, -ENOMEM, NULL, "out of memory");
	json_decref(merged);
	if (!rc)
		rc = check(obj, &err);
	if (rc && file && !json_object_get(options, err.field))
		confile_error(file, &err, message, CONFILE_MESSAGE_MAX);
	else if (rc)
		err_line(&err, message, CONFILE_MESSAGE_MAX);
	return rc;
}

void confile_free(struct confile *file)
{
	struct confile_line *line, *next;

	if (!file)
		return;
	HASH_ITER (hh, file->lines, line, next) {
		HASH_DEL(file->lines, line);
		free(line);
	}
	json_decref(file->root);
	free(file->path);
	free(file);
}
