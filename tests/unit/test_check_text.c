// SPDX-License-Identifier: Apache-2.0
#include "shared/check_text.h"

#include <errno.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_bytes(void **state)
{
	static const struct {
		const char *text, *bytes;
		int rc;
		size_t len;
	} rows[] = {
		{ "", "", 0, 0 },
		{ "PING\r\n", "PING\r\n", 0, 6 },
		{ "hex:", "", 0, 0 },
		{ "hex:000aFf", "\0\n\xff", 0, 3 },
		{ "hex:0", "", -EINVAL, 0 },
		{ "hex:0g", "", -EINVAL, 0 },
		{ "hex:0 a ", "", -EINVAL, 0 },
		{ "HEX:00", "HEX:00", 0, 6 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char bytes[16];
		size_t len = 99;

		assert_int_equal(check_text_bytes(rows[i].text, bytes, &len), rows[i].rc);
		if (rows[i].rc)
			continue;
		assert_int_equal(len, rows[i].len);
		assert_memory_equal(bytes, rows[i].bytes, len);
	}
}

static void test_statuses(void **state)
{
	static const char *const good[] = { "200", "200,301", "200-299", "200-299, 404", "100-599", "500-500" };
	static const char *const bad[] = { "", "20", "2000", "99", "600", "200-", "-200", "299-200", "200,", ",200",
		"200 301", "2xx", "200-299-300", "0200" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		if (check_text_status_ok(good[i]))
			fail_msg("%s was not taken", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (!check_text_status_ok(bad[i]))
			fail_msg("\"%s\" was taken", bad[i]);
	assert_true(check_text_has_status("200", 200));
	assert_false(check_text_has_status("200", 201));
	assert_true(check_text_has_status("200-299, 404", 299));
	assert_true(check_text_has_status("200-299, 404", 404));
	assert_false(check_text_has_status("200-299, 404", 300));
	assert_false(check_text_has_status("200-299", 0));
}

static void test_http_status(void **state)
{
	static const struct {
		const char *answer;
		bool ended;
		int rc;
		long status;
	} rows[] = {
		{ "", false, -EAGAIN, 0 },
		{ "", true, -EINVAL, 0 },
		{ "HTTP/1.1 2", false, -EAGAIN, 0 },
		{ "HTTP/1.1 200", false, -EAGAIN, 200 },
		{ "HTTP/1.1 200", true, 0, 200 },
		{ "HTTP/1.0 503 no\r\nA: b\r\n", false, -EAGAIN, 503 },
		{ "HTTP/1.0 503 no\r\nA: b\r\n\r\nbody", false, 0, 503 },
		{ "HTTP/1.1 103 x\r\nLink: y\r\n\r\nHTTP/1.1 204 z\r\n\r\n", false, 0, 204 },
		{ "HTTP/1.1 100 x\r\n\r\n", false, -EAGAIN, 100 },
		{ "HTTP/1.1 100 x\r\n", true, -EINVAL, 100 },
		{ "HTTP/1.1 101 x\r\n\r\n", false, 0, 101 },
		{ "SSH-2.0", false, -EINVAL, 0 },
		{ "HTTP/2 200\r\n\r\n", false, -EINVAL, 0 },
		{ "HTTP/1.1 20x\r\n\r\n", false, -EINVAL, 0 },
		{ "HTTP/1.1x200\r\n\r\n", false, -EINVAL, 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		long status = 0;
		const int rc = check_text_http_status(rows[i].answer, strlen(rows[i].answer), rows[i].ended, &status);

		if (rc != rows[i].rc || (!rc && status != rows[i].status))
			fail_msg("\"%s\": %d, status %ld", rows[i].answer, rc, status);
	}
}

// --- DNS ---

// www.example.com A 192.0.2.7, by way of a CNAME with a compressed name (RFC 1035, 4.1.4)
static const unsigned char answer[] = "\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0"
				      "\3www\7example\3com\0\0\1\0\1"
				      "\xc0\x0c\0\5\0\1\0\0\0\x3c\0\6\3web\xc0\x10"
				      "\xc0\x2d\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7";
#define ANSWER_LEN (sizeof(answer) - 1)

static void test_dns_answer(void **state)
{
	static const struct {
		int type, rc;
		const char *expect, *why;
	} rows[] = {
		{ 1, 1, "", "" },
		{ 1, 1, "192.0.2.7", "" },
		{ 1, 0, "192.0.2.8", "answered 192.0.2.7, expected 192.0.2.8" },
		{ 5, 1, "web.example.com", "" },
		{ 5, 1, "WEB.example.com.", "" },
		{ 5, 0, "web.example.co", "answered web.example.com, expected web.example.co" },
		{ 28, 0, "", "answered without such a record" },
	};
	unsigned char message[ANSWER_LEN];
	char why[200];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		why[0] = '\0';
		assert_int_equal(check_text_dns_answer(
					 answer, ANSWER_LEN, 0x1234, rows[i].type, rows[i].expect, why, sizeof(why)),
			rows[i].rc);
		assert_string_equal(why, rows[i].why);
	}
	// another's answer, and a question
	assert_int_equal(check_text_dns_answer(answer, ANSWER_LEN, 0x1235, 1, "", why, sizeof(why)), -EAGAIN);
	memcpy(message, answer, ANSWER_LEN);
	message[2] &= 0x7f;
	assert_int_equal(check_text_dns_answer(message, ANSWER_LEN, 0x1234, 1, "", why, sizeof(why)), -EAGAIN);
	memcpy(message, answer, ANSWER_LEN);
	message[3] |= 3;
	assert_int_equal(check_text_dns_answer(message, ANSWER_LEN, 0x1234, 1, "", why, sizeof(why)), 0);
	assert_string_equal(why, "answered NXDOMAIN");
	// a text is any bytes, and the reason is not
	memcpy(message, answer, ANSWER_LEN);
	message[ANSWER_LEN - 13] = 16;
	memcpy(message + ANSWER_LEN - 4, "\3\xff\na", 4);
	assert_int_equal(check_text_dns_answer(message, ANSWER_LEN, 0x1234, 16, "\xff\na", why, sizeof(why)), 1);
	assert_int_equal(check_text_dns_answer(message, ANSWER_LEN, 0x1234, 16, "b", why, sizeof(why)), 0);
	assert_string_equal(why, "answered ..a, expected b");
	// cut anywhere it is no answer that passes
	for (size_t len = 0; len < ANSWER_LEN; len++)
		assert_true(check_text_dns_answer(answer, len, 0x1234, 1, "", why, sizeof(why)) <= 0);
}

static void test_dns_query(void **state)
{
	static const char expected[] = "\x12\x34\x01\0\0\1\0\0\0\0\0\0\3www\7example\3com\0\0\x1c\0\1";
	unsigned char query[CHECK_DNS_QUERY_MAX];
	char name[300];

	(void)state;
	assert_int_equal(check_text_dns_query("www.example.com", 28, 0x1234, query), sizeof(expected) - 1);
	assert_memory_equal(query, expected, sizeof(expected) - 1);
	assert_int_equal(check_text_dns_query("www.example.com.", 28, 0x1234, query), sizeof(expected) - 1);
	memset(name, 'a', sizeof(name));
	name[64] = '\0';
	assert_int_equal(check_text_dns_query(name, 1, 0, query), -EINVAL); // a label has 63 letters at most
	assert_int_equal(check_text_dns_query("a..b", 1, 0, query), -EINVAL);
	for (size_t i = 0; i < sizeof(name) - 1; i++)
		name[i] = i % 64 == 63 ? '.' : 'a';
	name[253] = '\0';
	assert_true(check_text_dns_query(name, 1, 0, query) > 0);
	name[253] = 'a';
	name[256] = '\0';
	assert_int_equal(check_text_dns_query(name, 1, 0, query), -EINVAL);
}

// --- gRPC ---

static void test_grpc(void **state)
{
	unsigned char request[CHECK_GRPC_REQUEST_MAX];
	char name[256];
	static const struct {
		const char *message;
		size_t len;
		int status;
	} rows[] = {
		{ "\0\0\0\0\2\x08\1", 7, 1 },
		{ "\0\0\0\0\2\x08\2", 7, 2 },
		{ "\0\0\0\0\0", 5, 0 },                // fields of value 0 are left out
		{ "\0\0\0\0\6\x12\2ab\x08\3", 11, 3 }, // with a field of a later version
		{ "\1\0\0\0\2\x08\1", 7, -EINVAL },    // compressed
		{ "\0\0\0\0\3\x08\1", 7, -EINVAL },    // cut
		{ "\0\0\0\0\2\x12\x20", 7, -EINVAL },
		{ "\0\0\0\0\1\x08", 6, -EINVAL },
		{ "\0\0\0", 3, -EINVAL },
	};

	(void)state;
	assert_int_equal(check_text_grpc_request("", request), 5);
	assert_memory_equal(request, "\0\0\0\0\0", 5);
	assert_int_equal(check_text_grpc_request("web", request), 10);
	assert_memory_equal(request, "\0\0\0\0\5\x0a\3web", 10);
	memset(name, 'x', 255);
	name[255] = '\0';
	assert_int_equal(check_text_grpc_request(name, request), 5 + 3 + 255);
	assert_memory_equal(request, "\0\0\0\1\2\x0a\xff\1xx", 10);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(
			check_text_grpc_status((const unsigned char *)rows[i].message, rows[i].len), rows[i].status);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_statuses),
		cmocka_unit_test(test_http_status),
		cmocka_unit_test(test_dns_answer),
		cmocka_unit_test(test_dns_query),
		cmocka_unit_test(test_grpc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
