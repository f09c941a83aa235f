// SPDX-License-Identifier: Apache-2.0
// What a person will read when something is refused: the field it is about and one sentence. Floor 0.
//
// Functions that can fail for a reason worth telling return 0 or -errno and fill a trailing `struct err *`, which may
// be NULL. The text is a sentence without a final full stop: what was wrong, what was found, what is allowed.
#ifndef BRASS_SHARED_ERR_H
#define BRASS_SHARED_ERR_H

#define ERR_FIELD_MAX 192
#define ERR_TEXT_MAX 512

struct err {
	char field[ERR_FIELD_MAX]; // dotted path, "" when the error is about no single field
	char text[ERR_TEXT_MAX];
};

// Fills err (unless NULL) and returns code, so that `return err_set(err, -EINVAL, "port", "...")` is one line.
// field may be NULL. Texts that are too long are cut, never overrun.
int err_set(struct err *err, int code, const char *field, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

// Puts a path in front of the field: "port" becomes "backends.web.port"; an empty field becomes the prefix itself.
void err_prefix(struct err *err, const char *prefix);

// Puts words in front of the text: "cannot add VIP 10.0.0.1: " + "Operation not permitted".
void err_context(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

// One line for people: "field: text", or the text alone. Returns buf.
#define ERR_LINE_MAX (ERR_FIELD_MAX + ERR_TEXT_MAX + 2)
const char *err_line(const struct err *err, char *buf, int size);

#endif
