// SPDX-License-Identifier: Apache-2.0
#define PCRE2_CODE_UNIT_WIDTH 8

#include "shared/check_regex.h"

#include "shared/util.h"

#include <errno.h>
#include <pcre2.h>
#include <stdint.h>
#include <uv.h>

#define HEAP_KIB 4096 // of a search

DEFINE_CLEANUP(pcre2_code *, pcre2_code_free)
DEFINE_CLEANUP(pcre2_match_context *, pcre2_match_context_free)
DEFINE_CLEANUP(pcre2_match_data *, pcre2_match_data_free)

// Answers are bytes, of any encoding, and a line's end is nothing special in them.
static pcre2_code *compile(const char *pattern, int *ret_error)
{
	PCRE2_SIZE at;

	return pcre2_compile(
		(PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_DOTALL | PCRE2_AUTO_CALLOUT, ret_error, &at, NULL);
}

int check_regex_valid(const char *pattern, struct err *err)
{
	unsigned char why[120];
	int error;
	_cleanup_(pcre2_code_free_cleanup) pcre2_code *code = compile(pattern, &error);

	if (code)
		return 0;
	pcre2_get_error_message(error, why, sizeof(why));
	return err_set(err, -EINVAL, "args.body_regex", "found \"%.80s\": %s", pattern, (const char *)why);
}

// PCRE2's own limits count what is done from one place of the text, and there are as many searches as places. This is
// called for every item of the expression, over and over.
static int on_item(pcre2_callout_block *block, void *until_ns)
{
	(void)block;
	return uv_hrtime() < *(const uint64_t *)until_ns ? 0 : PCRE2_ERROR_MATCHLIMIT;
}

int check_regex_find(const char *pattern, const char *text, size_t len)
{
	int error;
	_cleanup_(pcre2_code_free_cleanup) pcre2_code *code = compile(pattern, &error);
	_cleanup_(pcre2_match_context_free_cleanup) pcre2_match_context *context = pcre2_match_context_create(NULL);
	_cleanup_(pcre2_match_data_free_cleanup) pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	uint64_t until_ns = uv_hrtime() + CHECK_REGEX_MS * UINT64_C(1000000);

	if (!code || !context || !data)
		return -ENOMEM;
	pcre2_set_callout(context, on_item, &until_ns);
	pcre2_set_heap_limit(context, HEAP_KIB);
	const int rc = pcre2_match(code, (PCRE2_SPTR)text, len, 0, 0, data, context);

	return rc >= 0 ? 1 : rc == PCRE2_ERROR_NOMATCH ? 0 : rc == PCRE2_ERROR_NOMEMORY ? -ENOMEM : -ETIME;
}
