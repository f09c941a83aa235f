// SPDX-License-Identifier: Apache-2.0
// What a real server is, in words of its owner: {"zone": "a", "version": "b"}. Plain values. Floor 1.
#ifndef BRASS_SHARED_LABELS_H
#define BRASS_SHARED_LABELS_H

#include "shared/err.h"
#include "shared/out.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LABELS_MAX 8
#define LABEL_MAX 64 // bytes of a label's name or value

struct labels {
	uint32_t count;
	struct label {
		char name[LABEL_MAX + 1];
		char value[LABEL_MAX + 1];
	} items[LABELS_MAX]; // as far as count, sorted by name
};

// As fields: of a struct labels, and of a struct labels * that is its owner's to free (NULL: none).
int labels_parse(const json_t *json, void *member, struct err *err);
bool labels_print(const void *member, struct out *out);
int labels_parse_new(const json_t *json, void *member, struct err *err);
bool labels_print_new(const void *member, struct out *out);

// A name or a value. 0 or -EINVAL.
int labels_check(const char *text, struct err *err);
// The value of a label, NULL when there is none. labels may be NULL.
const char *labels_find(const struct labels *labels, const char *name);
// Bytes that are in use.
size_t labels_size(const struct labels *labels);
// Those of `own`, and those of `common` that it does not have. 0 or -EINVAL when they are too many.
int labels_merge(const struct labels *own, const struct labels *common, struct labels *ret, struct err *err);

#endif
