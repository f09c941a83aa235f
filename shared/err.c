// SPDX-License-Identifier: Apache-2.0
#include "shared/err.h"

#include "shared/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *err, int code, const char *field, const char *fmt, ...)
{
	va_list args;

	if (!err)
		return code;
	snprintf(err->field, sizeof(err->field), "%s", field ? field : "");
	va_start(args, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	utf8_mend(err->text); // what is quoted is cut where it is too long
	return code;
}

void err_prefix(struct err *err, const char *prefix)
{
	char old[ERR_FIELD_MAX];

	if (!err)
		return;
	memcpy(old, err->field, sizeof(old));
	// an index in brackets joins without a dot: "listen" + "[2]"
	const char *joint = !*old || *old == '[' ? "" : ".";
	if (snprintf(err->field, sizeof(err->field), "%s%s%s", prefix, joint, old) < 0)
		err->field[0] = '\0';
}

void err_context(struct err *err, const char *fmt, ...)
{
	char old[ERR_TEXT_MAX];
	va_list args;

	if (!err)
		return;
	memcpy(old, err->text, sizeof(old));
	va_start(args, fmt);
	int n = vsnprintf(err->text, sizeof(err->text), fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n < sizeof(err->text) - 1)
		snprintf(err->text + n, sizeof(err->text) - (size_t)n, "%s", old);
}

const char *err_line(const struct err *err, char *buf, int size)
{
	snprintf(buf, (size_t)size, "%s%s%s", err->field, *err->field ? ": " : "", err->text);
	return buf;
}
