// SPDX-License-Identifier: Apache-2.0
// A YAML file (of which JSON is a subset) as a JSON value, with the line of every field. Floor 1.
//
// Plain scalars become what YAML 1.2's core schema says (null, booleans, numbers); quoted ones are strings. Refused,
// each with its line: syntax errors, invalid UTF-8, duplicate keys, keys that are not plain scalars, anchors and
// aliases, more than one document, zero bytes, nesting deeper than CONFILE_DEPTH_MAX, keys over CONFILE_KEY_MAX and
// files over CONFILE_SIZE_MAX bytes.
#ifndef BRASS_SHARED_CONFILE_H
#define BRASS_SHARED_CONFILE_H

#include "shared/err.h"
#include "shared/field.h"
#include "shared/util.h"

#include <jansson.h>
#include <stddef.h>

#define CONFILE_DEPTH_MAX 32
#define CONFILE_KEY_MAX 128 // bytes; with all of them escaped still less than the 1024 that YAML allows
#define CONFILE_SIZE_MAX (64u << 20)

struct confile {
	json_t *root; // owned; an empty file is an empty object
	struct confile_line *lines;
	char *path;
};

// Reads a file. Errors: -ENOENT and the like from open(2), -EINVAL with "line N: ..." in err->text.
int confile_load(const char *path, struct confile **ret, struct err *err);

// The same for text in memory; name stands for the path in messages.
int confile_parse(const char *name, const char *text, size_t len, struct confile **ret, struct err *err);

// Line of a field by its dotted path ("backends.web.port", "directors[1]"), or of the nearest field around it; 0 when
// nothing is known.
unsigned int confile_line(const struct confile *file, const char *field);

// One sentence for people from an error of the validator: "agent.yaml, line 7: backends.web.port: found ...".
const char *confile_error(const struct confile *file, const struct err *err, char *buf, size_t size);

// Reads a daemon's configuration: the file at path (NULL: none) with the options laid over it, into obj by its field
// table; check (fills in what needs more than one field, may refuse) comes last. On a mistake message is one line that
// names file, line and field, and obj is undefined but for pointers that its custom rows own. Returns 0 or -errno.
#define CONFILE_MESSAGE_MAX 2048
int confile_configure(const char *path, const json_t *options, const struct field_table *table,
	int (*check)(void *obj, struct err *err), void *obj, char message[CONFILE_MESSAGE_MAX]);

void confile_free(struct confile *file);
DEFINE_CLEANUP(struct confile *, confile_free)

// Writes a value as YAML: objects and lists as blocks down to `blocks` levels, in one line below that. What is read
// back is the same value, if no key is over CONFILE_KEY_MAX. indent: spaces before each line; the value's own key, if
// any, has been written.
void confile_write(const json_t *value, int blocks, int indent, struct out *out);
// A string as a YAML scalar: plain where that means the same string, else quoted.
void confile_write_string(const char *text, struct out *out);

// A plain YAML scalar as a JSON value: "80" is a number, "yes" a string, "true" a boolean. New reference.
json_t *confile_scalar(const char *text, size_t len);

#endif
