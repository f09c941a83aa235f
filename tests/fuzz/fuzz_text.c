// SPDX-License-Identifier: Apache-2.0
// Addresses, endpoints, prefixes and times: what is taken is printed as what is taken as the same.
#include "shared/clock.h"
#include "shared/inet.h"
#include "shared/util.h"
#include "tests/fuzz/fuzz.h"

#include <string.h>

static void addresses(const char *text)
{
	struct inet_addr a, b;
	struct inet_endpoint e, f;
	struct inet_prefix p, q;
	char buf[INET_PREFIX_MAX + INET_ENDPOINT_MAX];

	if (inet_addr_parse(text, &a) == 0)
		MUST(inet_addr_parse(inet_addr_format(&a, buf), &b) == 0 && inet_addr_cmp(&a, &b) == 0);
	if (inet_endpoint_parse(text, 80, &e) == 0)
		MUST(inet_endpoint_parse(inet_endpoint_format(&e, buf), -1, &f) == 0 && inet_endpoint_cmp(&e, &f) == 0);
	if (inet_prefix_parse(text, &p) == 0)
		MUST(inet_prefix_parse(inet_prefix_format(&p, buf), &q) == 0 && inet_addr_cmp(&p.addr, &q.addr) == 0 &&
			p.len == q.len && inet_prefix_contains(&p, &p.addr));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = strndup((const char *)data, size);
	char buf[CLOCK_DURATION_MAX];
	msec_t ms, again;

	addresses(text);
	if (clock_parse_duration(text, &ms) == 0)
		MUST(ms >= 0 && clock_parse_duration(clock_format_duration(ms, buf), &again) == 0 && again == ms);
	return 0;
}
