// SPDX-License-Identifier: Apache-2.0
// YAML: what is taken and written again is read as the same value.
#include "shared/confile.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(confile_free_cleanup) struct confile *file = NULL;
	_cleanup_(confile_free_cleanup) struct confile *again = NULL;
	_cleanup_out_ struct out out = { 0 };
	struct err err = { 0 };

	if (confile_parse("fuzz.yaml", (const char *)data, size, &file, &err)) {
		MUST(*err.text && !file);
		return 0;
	}
	confile_write(file->root, 3, 0, &out);
	MUST(!out.failed);
	if (confile_parse("again.yaml", out.text ? out.text : "", out.len, &again, &err)) {
		fprintf(stderr, "written:\n%.*s\nrefused: %s\n", (int)out.len, out.text, err.text);
		abort();
	}
	MUST(json_equal(file->root, again->root));
	return 0;
}
