// SPDX-License-Identifier: Apache-2.0
// The types of field rows: one reader and one printer each. For field.c; everybody else includes field.h. Floor 0.
#ifndef BRASS_SHARED_FIELD_TYPE_H
#define BRASS_SHARED_FIELD_TYPE_H

#include "shared/field.h"

struct field_type_row {
	// fills the member; on error err says what was found and what is allowed, without the field's name
	int (*read)(const struct field *row, const json_t *json, void *member, struct err *err);
	// writes the value; false: there is none, leave the field out
	bool (*print)(const struct field *row, const void *member, struct out *out);
	const char *name; // for the documentation
};

extern const struct field_type_row field_types[]; // by enum field_type

// "found 7, allowed is ...". Always -EINVAL.
int field_wrong(const json_t *json, struct err *err, const char *allowed);

// "dr, ipip, nat": every value once, by its first spelling, or with all its spellings.
const char *field_list_choices(const struct field_choice *choices, bool all, char *buf, size_t size);

#endif
