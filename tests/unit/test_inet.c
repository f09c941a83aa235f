// SPDX-License-Identifier: Apache-2.0
#include "shared/inet.h"

#include <errno.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct inet_addr addr(const char *text)
{
	struct inet_addr a;

	assert_int_equal(inet_addr_parse(text, &a), 0);
	return a;
}

static void test_addresses(void **state)
{
	static const char *const bad[] = { "", "10.0.0", "10.0.0.256", "10.0.0.1 ", "::g", "1:2:3:4:5:6:7:8:9",
		"example.org" };
	static const char *const not_unicast[] = { "0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1",
		"::ffff:10.0.0.1" };
	struct inet_addr a = { 0 };
	char buf[INET_ADDR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(inet_addr_parse(bad[i], &a), -EINVAL);
	assert_false(inet_addr_is_set(&a));
	a = addr("2001:DB8:0:0::1");
	assert_string_equal(inet_addr_format(&a, buf), "2001:db8::1");
	assert_true(inet_addr_is_unicast(&a));
	for (size_t i = 0; i < sizeof(not_unicast) / sizeof(not_unicast[0]); i++) {
		a = addr(not_unicast[i]);
		assert_false(inet_addr_is_unicast(&a));
	}
	a = addr("127.3.2.1");
	assert_true(inet_addr_is_loopback(&a));
	const struct inet_addr v4 = addr("9.9.9.9"), v6 = addr("::1"), next = addr("9.9.9.10");
	assert_true(inet_addr_cmp(&v4, &v6) < 0 && inet_addr_cmp(&v4, &next) < 0 && inet_addr_cmp(&v4, &v4) == 0);
}

static void test_endpoints(void **state)
{
	static const struct {
		const char *text;
		int default_port, rc;
		const char *printed;
	} rows[] = { { "10.0.0.1:80", -1, 0, "10.0.0.1:80" }, { "[fd00::1]:80", -1, 0, "[fd00::1]:80" },
		{ "10.0.0.1", 4672, 0, "10.0.0.1:4672" }, { "fd00::1", 4672, 0, "[fd00::1]:4672" },
		{ "[fd00::1]", 4672, 0, "[fd00::1]:4672" }, { "10.0.0.1", -1, -EINVAL, NULL },
		{ "10.0.0.1:70000", -1, -ERANGE, NULL }, { "10.0.0.1:", -1, -EINVAL, NULL },
		{ "10.0.0.1:8x", -1, -EINVAL, NULL }, { "[10.0.0.1]:80", -1, -EINVAL, NULL },
		{ "[fd00::1", -1, -EINVAL, NULL }, { "[fd00::1]80", -1, -EINVAL, NULL }, { ":80", -1, -EINVAL, NULL } };
	char buf[INET_ENDPOINT_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct inet_endpoint ep, back;
		struct sockaddr_storage sa;

		assert_int_equal(inet_endpoint_parse(rows[i].text, rows[i].default_port, &ep), rows[i].rc);
		if (rows[i].rc)
			continue;
		assert_string_equal(inet_endpoint_format(&ep, buf), rows[i].printed);
		inet_endpoint_to_sockaddr(&ep, &sa);
		assert_int_equal(inet_endpoint_from_sockaddr((struct sockaddr *)&sa, &back), 0);
		assert_int_equal(inet_endpoint_cmp(&ep, &back), 0);
	}
}

static void test_prefixes(void **state)
{
	struct inet_prefix p;
	const struct inet_addr in = addr("10.1.127.255"), out = addr("10.1.128.0"), v6 = addr("fd00::1");

	(void)state;
	assert_int_equal(inet_prefix_parse("10.1.0.0/17", &p), 0);
	assert_true(inet_prefix_contains(&p, &in));
	assert_false(inet_prefix_contains(&p, &out));
	assert_false(inet_prefix_contains(&p, &v6));
	assert_int_equal(inet_prefix_parse("10.1.0.0/33", &p), -ERANGE);
	assert_int_equal(inet_prefix_parse("10.1.0.0/", &p), -EINVAL);
	assert_int_equal(inet_prefix_parse("fd00::1", &p), 0);
	assert_int_equal(p.len, 128);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_addresses), cmocka_unit_test(test_endpoints),
		cmocka_unit_test(test_prefixes) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
