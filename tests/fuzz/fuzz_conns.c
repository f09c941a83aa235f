// SPDX-License-Identifier: Apache-2.0
// Lines of the kernel's table of connections: the same line is the same connection, whatever follows its places.
#include "director/conns.h"
#include "shared/util.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *line = strndup((const char *)data, size);
	struct conn a, b;

	if (conns_parse(line, &a))
		return 0;
	MUST(conns_parse(line, &b) == 0 && a.id == b.id && a.waiting == b.waiting);
	MUST(inet_addr_is_set(&a.client) && inet_addr_is_set(&a.vip.addr) && inet_addr_is_set(&a.dest.addr));
	return 0;
}
