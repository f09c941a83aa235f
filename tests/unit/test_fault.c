// SPDX-License-Identifier: Apache-2.0
#include "director/fault.h"

#include "shared/util.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define NO FAULT_NOT_RUN

static struct fault_seen seen_of(int method, const int outcome[FAULT_PROBES])
{
	struct fault_seen seen = {
		.method = method,
		.tunnel.port = 6080,
		.port = 80,
		.full_size = 1480,
		.agent_reason = "",
		.check_reason = "",
	};

	memcpy(seen.outcome, outcome, sizeof(seen.outcome));
	inet_addr_parse("10.0.0.100", &seen.vip);
	inet_addr_parse("10.0.0.11", &seen.rip);
	return seen;
}

// What each pattern of outcomes stands for, and a part of the sentence.
static void test_patterns(void **state)
{
	static const struct {
		int method;
		int outcome[FAULT_PROBES]; // RIP, its other port, VIP, its other port, full-size
		enum fault_agent agent;
		bool check_fails;
		enum fault fault;
		const char *text;
	} rows[] = {
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_PASS, CHECK_REFUSED, CHECK_PASS }, 0, false,
			FAULT_NONE, "it answers" },
		{ FORWARD_DR, { CHECK_TIMEOUT, CHECK_TIMEOUT, CHECK_PASS, CHECK_REFUSED, CHECK_PASS }, 0, false,
			FAULT_NONE, "clients do not need" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_PASS, CHECK_REFUSED, CHECK_PASS }, 0, true,
			FAULT_PROGRAM_WRONG, "status 500" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_PASS, CHECK_REFUSED, CHECK_PASS }, FAULT_AGENT_BAD,
			false, FAULT_AGENT, "disk full" },
		{ FORWARD_IPIP, { CHECK_PASS, CHECK_REFUSED, CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT }, 0, true,
			FAULT_MTU, "packets of 1480 bytes" },
		{ FORWARD_DR, { CHECK_UNREACHABLE, CHECK_TIMEOUT, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, FAULT_AGENT_LOST,
			true, FAULT_HOST_DOWN, "10.0.0.11 answers on no port" },
		{ FORWARD_DR, { CHECK_TIMEOUT, CHECK_TIMEOUT, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, FAULT_AGENT_UP, true,
			FAULT_FIREWALL, "its agent is heard" },
		{ FORWARD_DR, { CHECK_TIMEOUT, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_REFUSED, NO }, 0, true,
			FAULT_FIREWALL, "port 80 of 10.0.0.11" },
		{ FORWARD_DR, { CHECK_REFUSED, CHECK_REFUSED, CHECK_REFUSED, CHECK_REFUSED, NO }, 0, true,
			FAULT_PROGRAM_DOWN, "port 80" },
		{ FORWARD_NAT, { CHECK_REFUSED, CHECK_REFUSED, NO, NO, NO }, 0, true, FAULT_PROGRAM_DOWN, "port 80" },
		{ FORWARD_NAT, { CHECK_PASS, CHECK_REFUSED, NO, NO, NO }, 0, false, FAULT_NONE, "was not tried" },
		{ FORWARD_NAT, { CHECK_PASS, CHECK_REFUSED, NO, NO, NO }, 0, true, FAULT_PROGRAM_WRONG, "status 500" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_REFUSED, CHECK_REFUSED, NO }, 0, true,
			FAULT_BOUND_TO_RIP, "listens on 10.0.0.11 only" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_REFUSED, NO }, FAULT_AGENT_BAD, true,
			FAULT_FIREWALL, "on other ports" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, FAULT_AGENT_BAD, true,
			FAULT_AGENT, "disk full" },
		{ FORWARD_IPIP, { CHECK_PASS, CHECK_REFUSED, CHECK_NO_PORT, CHECK_TIMEOUT, NO }, 0, true,
			FAULT_NOT_DECAPSULATED, "IP protocol 4 (ipip)" },
		{ FORWARD_GUE, { CHECK_PASS, CHECK_REFUSED, CHECK_NO_PORT, CHECK_NO_PORT, NO }, 0, true,
			FAULT_NOT_DECAPSULATED, "UDP to port 6080" },
		{ FORWARD_GRE, { CHECK_PASS, CHECK_REFUSED, CHECK_NO_PROTOCOL, CHECK_TIMEOUT, NO }, 0, true,
			FAULT_NOT_DECAPSULATED, "type gre" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_NO_PORT, CHECK_NO_PORT, NO }, 0, true, FAULT_FIREWALL,
			"ICMP" },
		{ FORWARD_GRE, { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, 0, true,
			FAULT_TUNNEL_DROPS, "csum differs" },
		{ FORWARD_IPIP, { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, FAULT_AGENT_UP, true,
			FAULT_FIREWALL, "has read back" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, FAULT_AGENT_UP, true,
			FAULT_FIREWALL, "has read back" },
		{ FORWARD_DR, { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_TIMEOUT, NO }, 0, true,
			FAULT_VIP_MISSING, "ip addr add 10.0.0.100/32 dev lo" },
		{ FORWARD_DR, { CHECK_BROKEN, CHECK_BROKEN, CHECK_BROKEN, CHECK_BROKEN, NO }, 0, true, FAULT_UNKNOWN,
			"no fault that is known" },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fault_seen seen = seen_of(rows[i].method, rows[i].outcome);
		char text[FAULT_TEXT_MAX];

		seen.agent = rows[i].agent;
		seen.agent_reason = "disk full";
		seen.check_fails = rows[i].check_fails;
		seen.check_reason = "GET from 10.0.0.11:80: status 500, expected 200";
		const enum fault fault = fault_find(&seen, text);
		if (fault != rows[i].fault || !strstr(text, rows[i].text))
			fail_msg("row %zu: %s: %s", i, field_choice_name(fault_choices, fault), text);
		if (strpbrk(text, "{}?"))
			fail_msg("row %zu: a word was not replaced: %s", i, text);
	}
}

// Every outcome of every probe gives some fault and a sentence: the table has no hole.
static void test_nothing_is_left_without_an_answer(void **state)
{
	static const int outcomes[] = { CHECK_PASS, CHECK_REFUSED, CHECK_TIMEOUT, CHECK_NO_PORT, CHECK_PROHIBITED,
		CHECK_BROKEN, FAULT_NOT_RUN };
	int at[FAULT_PROBES] = { 0 };
	char text[FAULT_TEXT_MAX];

	(void)state;
	for (;;) {
		int outcome[FAULT_PROBES], p = 0;

		for (int i = 0; i < FAULT_PROBES; i++)
			outcome[i] = outcomes[at[i]];
		for (int method = FORWARD_DR; method <= FORWARD_GRE; method++) {
			const struct fault_seen seen = seen_of(method, outcome);
			const enum fault fault = fault_find(&seen, text);

			assert_non_null(field_choice_name(fault_choices, fault));
			assert_true(*text);
			// what is said to be right does answer
			if (fault == FAULT_NONE)
				assert_true(outcome[FAULT_VIP] == CHECK_PASS || outcome[FAULT_RIP] == CHECK_PASS);
		}
		while (p < FAULT_PROBES && ++at[p] == ARRAY_SIZE(outcomes))
			at[p++] = 0;
		if (p == FAULT_PROBES)
			return;
	}
}

// Words that are longer than the sentence may be are cut, and nothing is written beyond.
static void test_long_words(void **state)
{
	static const int outcome[FAULT_PROBES] = { CHECK_PASS, NO, NO, NO, NO };
	struct fault_seen seen = seen_of(FORWARD_NAT, outcome);
	char text[FAULT_TEXT_MAX + 1], reason[2000];

	(void)state;
	memset(reason, 'x', sizeof(reason) - 1);
	reason[sizeof(reason) - 1] = '\0';
	text[FAULT_TEXT_MAX] = 'y';
	seen.check_fails = true;
	seen.check_reason = reason;
	assert_int_equal(fault_find(&seen, text), FAULT_PROGRAM_WRONG);
	assert_true(strlen(text) < FAULT_TEXT_MAX && text[FAULT_TEXT_MAX] == 'y');
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_patterns),
		cmocka_unit_test(test_nothing_is_left_without_an_answer),
		cmocka_unit_test(test_long_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
