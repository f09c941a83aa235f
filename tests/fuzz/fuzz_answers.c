// SPDX-License-Identifier: Apache-2.0
// What servers answer to checks: DNS messages and gRPC frames; and what people write for them.
#include "shared/check.h"
#include "shared/check_text.h"
#include "tests/fuzz/fuzz.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int types[] = { 1, 2, 5, 6, 12, 15, 16, 28, 33 };
	char text[CHECK_TEXT_MAX], bytes[CHECK_TEXT_MAX], why[200];
	unsigned char query[CHECK_DNS_QUERY_MAX];
	size_t len = size < sizeof(text) - 1 ? size : sizeof(text) - 1, n;

	memcpy(text, data, len);
	text[len] = '\0';
	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && size >= 2; i++) {
		// the id is that of the message, so that it is looked at
		check_text_dns_answer(data, size, (uint16_t)(data[0] << 8 | data[1]), types[i], "", why, sizeof(why));
		check_text_dns_answer(data, size, (uint16_t)(data[0] << 8 | data[1]), types[i], "a", why, sizeof(why));
	}
	long status;

	check_text_http_status((const char *)data, size, false, &status);
	check_text_http_status((const char *)data, size, true, &status);
	check_text_grpc_status(data, size);
	check_text_dns_query(text, 1, 0, query);
	if (check_text_bytes(text, bytes, &n) == 0 && n > strlen(text))
		abort();
	if (check_text_status_ok(text) == 0)
		check_text_has_status(text, 200);
	check_text_quote((const char *)data, size, why, sizeof(why));
	return 0;
}
