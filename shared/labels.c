// SPDX-License-Identifier: Apache-2.0
#include "shared/labels.h"

#include "shared/field.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int labels_check(const char *text, struct err *err)
{
	if (field_name_ok(text, LABEL_MAX))
		return 0;
	return err_set(err, -EINVAL, NULL,
		"found \"%.80s\", allowed are 1 to %d letters, digits and . _ - : @ that begin with a letter or digit",
		text, LABEL_MAX);
}

// By name, so that what is equal prints alike: JSON objects have no order.
static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct label *)a)->name, ((const struct label *)b)->name);
}

static int too_many(size_t count, struct err *err)
{
	return err_set(err, -EINVAL, NULL, "found %zu labels, allowed are at most %d", count, LABELS_MAX);
}

int labels_parse(const json_t *json, void *member, struct err *err)
{
	struct labels *labels = member;
	const char *name;
	json_t *value;

	labels->count = 0;
	if (!json_is_object(json))
		return err_set(err, -EINVAL, NULL, "found %s, allowed is an object of strings", field_json_kind(json));
	if (json_object_size(json) > LABELS_MAX)
		return too_many(json_object_size(json), err);
	json_object_foreach ((json_t *)(uintptr_t)json, name, value) {
		struct label *label = &labels->items[labels->count++];
		int rc = labels_check(name, err);

		if (!rc && !json_is_string(value))
			rc = err_set(err, -EINVAL, NULL, "found %s, allowed is a string", field_json_kind(value));
		if (!rc)
			rc = labels_check(json_string_value(value), err);
		if (rc) {
			err_prefix(err, name);
			return rc;
		}
		snprintf(label->name, sizeof(label->name), "%s", name);
		snprintf(label->value, sizeof(label->value), "%s", json_string_value(value));
	}
	qsort(labels->items, labels->count, sizeof(labels->items[0]), by_name);
	return 0;
}

bool labels_print(const void *member, struct out *out)
{
	const struct labels *labels = member;

	if (!labels->count)
		return false;
	out_open(out, '{');
	for (uint32_t i = 0; i < labels->count; i++) {
		out_key(out, labels->items[i].name);
		out_string(out, labels->items[i].value);
	}
	out_close(out, '{');
	return true;
}

int labels_parse_new(const json_t *json, void *member, struct err *err)
{
	struct labels **to = member, labels;
	int rc = labels_parse(json, &labels, err);

	free(*to);
	*to = NULL;
	if (rc || !labels.count)
		return rc;
	*to = malloc(labels_size(&labels));
	if (!*to)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	memcpy(*to, &labels, labels_size(&labels));
	return 0;
}

bool labels_print_new(const void *member, struct out *out)
{
	const struct labels *const *labels = member;

	return *labels && labels_print(*labels, out);
}

const char *labels_find(const struct labels *labels, const char *name)
{
	for (uint32_t i = 0; labels && i < labels->count; i++)
		if (strcmp(labels->items[i].name, name) == 0)
			return labels->items[i].value;
	return NULL;
}

size_t labels_size(const struct labels *labels)
{
	return offsetof(struct labels, items) + labels->count * sizeof(labels->items[0]);
}

int labels_merge(const struct labels *own, const struct labels *common, struct labels *ret, struct err *err)
{
	size_t count = own->count;

	for (uint32_t i = 0; i < common->count; i++)
		count += !labels_find(own, common->items[i].name);
	if (count > LABELS_MAX)
		return too_many(count, err);
	memcpy(ret, own, labels_size(own));
	for (uint32_t i = 0; i < common->count; i++)
		if (!labels_find(own, common->items[i].name))
			ret->items[ret->count++] = common->items[i];
	qsort(ret->items, ret->count, sizeof(ret->items[0]), by_name);
	return 0;
}
