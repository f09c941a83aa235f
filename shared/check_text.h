// SPDX-License-Identifier: Apache-2.0
// What checks send and expect: bytes as text, sets of HTTP statuses, parts of a body, DNS messages. Pure. Floor 3.
#ifndef BRASS_SHARED_CHECK_TEXT_H
#define BRASS_SHARED_CHECK_TEXT_H

#include "shared/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// The bytes that a text stands for: itself, or after "hex:" what its digits say. ret has room for strlen(text) bytes.
// 0 or -EINVAL.
int check_text_bytes(const char *text, char *ret, size_t *ret_len);

// Is it a set of statuses, such as "200,300-399"? 0 or -EINVAL; and is one in it? "" is 200.
int check_text_status_ok(const char *set);
bool check_text_has_status(const char *set, long status);

// The status of an HTTP/1 answer, once its headers are all there; interim answers are stepped over. ended: there will
// be no more. 0, -EAGAIN, or -EINVAL: that is no HTTP.
int check_text_http_status(const char *answer, size_t len, bool ended, long *ret);

// The first bytes of an answer, fit for a sentence: what cannot be printed is a dot. Returns buf.
const char *check_text_quote(const char *bytes, size_t len, char *buf, size_t size);

// --- DNS (RFC 1035) ---

#define CHECK_DNS_QUERY_MAX 300 // a header, a name and four bytes
// Can it be asked for? 0 or -EINVAL.
int check_text_dns_name(const char *name, struct err *err);
// A query for name and type with recursion desired. Returns its length or -EINVAL.
int check_text_dns_query(const char *name, int type, uint16_t id, unsigned char ret[CHECK_DNS_QUERY_MAX]);
// Is it the answer to a query of this id? 1: yes, and as expected ("": any of the type); 0: yes, but another, see why;
// -EAGAIN: no.
int check_text_dns_answer(
	const unsigned char *message, size_t len, uint16_t id, int type, const char *expect, char *why, size_t size);

// --- gRPC (health/v1: grpc/health/v1/health.proto) ---

#define CHECK_GRPC_REQUEST_MAX (5 + 3 + 256)
// HealthCheckRequest of a service, framed. Returns its length.
size_t check_text_grpc_request(const char *service, unsigned char ret[CHECK_GRPC_REQUEST_MAX]);
// The status in a framed HealthCheckResponse: 0 unknown, 1 serving, 2 not serving, 3 service unknown; or -EINVAL.
int check_text_grpc_status(const unsigned char *message, size_t len);

#endif
