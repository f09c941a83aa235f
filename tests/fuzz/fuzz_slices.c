// SPDX-License-Identifier: Apache-2.0
// A document taken apart without a parser: the same members as a parser finds, in the same order.
#include "shared/slices.h"
#include "shared/util.h"
#include "tests/fuzz/fuzz.h"

#include <jansson.h>
#include <string.h>

// The members of services, one after the other, against the slices. A name that comes twice is the last one's for a
// parser, so that those texts are only walked through.
static void compare(struct slices *slices, const json_t *services)
{
	struct slice key, value;
	size_t count = 0;

	while (slices_next(slices, &key, &value)) {
		json_t *name = json_loadb(key.text, key.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		json_t *one = json_loadb(value.text, value.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

		count++;
		if (services) {
			MUST(name && one);
			MUST(json_equal(json_object_get(services, json_string_value(name)), one));
		}
		json_decref(name);
		json_decref(one);
	}
	if (services)
		MUST(count == json_object_size(services));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size ? size : 1); // its end is a wall for reads
	struct slices slices;

	memcpy(text, data, size);
	json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	const json_t *services = json_object_size(root) == 1 ? json_object_get(root, "services") : NULL;

	if (slices_open(text, size, "services", &slices))
		compare(&slices, json_is_object(services) ? services : NULL);
	json_decref(root);
	return 0;
}
