// SPDX-License-Identifier: Apache-2.0
#include "agent/summary.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SERVICES 3

struct scene {
	struct config config;
	struct config_backend backends[SERVICES];
	struct protocol_service answers[2][SERVICES];
	struct client clients[2];
	struct client_list list;
	struct services services;
	char text[SUMMARY_MAX];
};

static struct inet_addr address(const char *text)
{
	struct inet_addr addr;

	assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

// Three services, all up at two directors.
static int setup(void **state)
{
	static const char *const names[SERVICES] = { "api", "mail", "web" };
	const struct inet_addr own = address("10.1.0.11");
	struct scene *s = calloc(1, sizeof(*s));

	s->config.backends.items = s->backends;
	s->config.backends.count = SERVICES;
	for (size_t i = 0; i < SERVICES; i++)
		snprintf(s->backends[i].service, sizeof(s->backends[i].service), "%s", names[i]);
	for (size_t c = 0; c < 2; c++) {
		for (size_t i = 0; i < SERVICES; i++) {
			s->answers[c][i] = (struct protocol_service) {
				.known = true,
				.host = address("192.0.2.10"),
				.port = (uint16_t)(80 + i),
				.protocol = IPPROTO_TCP,
				.status = "up",
			};
			snprintf(s->answers[c][i].service, sizeof(s->answers[c][i].service), "%s", names[i]);
		}
		s->clients[c].state = CLIENT_REGISTERED;
		s->clients[c].answer.services = s->answers[c];
		s->clients[c].answer.count = SERVICES;
		s->clients[c].has_answer = s->clients[c].fresh = true;
		s->list.items[s->list.count++] = &s->clients[c];
	}
	assert_int_equal(services_init(&s->services, &s->config, &s->list), 0);
	services_build(&s->services, &own);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;

	services_clear(&s->services);
	free(s);
	return 0;
}

#define SAYS(text_) assert_string_equal(summary(&s->services, "", s->text), text_)

static void all_is_well(void **state)
{
	struct scene *s = *state;

	SAYS("3 services up; 2 of 2 directors");
	s->clients[1].state = CLIENT_WAITING;
	SAYS("3 services up; 1 of 2 directors");
}

static void the_worst_counts_and_the_first_is_named(void **state)
{
	struct scene *s = *state;

	// outcomes are those of the first director, then of the second
	snprintf(s->services.outcomes[SERVICES + 2].problem, PROTOCOL_REASON_MAX,
		"no program listens on tcp 192.0.2.10:82");
	SAYS("2 services up, 1 down: web: no program listens on tcp 192.0.2.10:82; 2 of 2 directors");
	snprintf(s->services.outcomes[1].problem, PROTOCOL_REASON_MAX, "another reason");
	SAYS("1 service up, 2 down: mail: another reason; 2 of 2 directors");
	snprintf(s->answers[0][0].status, sizeof(s->answers[0][0].status), "refused");
	snprintf(s->answers[0][0].error, PROTOCOL_REASON_MAX, "its port is taken");
	SAYS("0 services up, 1 refused: api: its port is taken, 2 down: mail: another reason; 2 of 2 directors");
}

static void what_leaves_is_drained_and_counts_for_nobody(void **state)
{
	struct scene *s = *state;

	s->backends[0].leaving = true;
	s->clients[1].retiring = true;
	SAYS("2 services up, 1 drained; 1 of 1 directors");
}

static void nothing_was_said_yet(void **state)
{
	struct scene *s = *state;
	const struct inet_addr own = address("10.1.0.11");

	for (size_t c = 0; c < 2; c++) {
		s->clients[c].has_answer = s->clients[c].fresh = false;
		s->clients[c].state = CLIENT_ASKING;
	}
	services_build(&s->services, &own);
	SAYS("0 services up, 3 being set up; 0 of 2 directors");
}

static void static_ones_count_and_need_no_director(void **state)
{
	struct scene *s = *state;
	struct config_static items[] = { { .host = address("192.0.2.20"), .port = 80, .protocol = IPPROTO_TCP } };
	const struct inet_addr own = address("10.1.0.11");

	s->config.backends.count = 0;
	s->config.statics.items = items;
	s->config.statics.count = 1;
	s->list.count = 0;
	services_clear(&s->services);
	assert_int_equal(services_init(&s->services, &s->config, &s->list), 0);
	services_build(&s->services, &own);
	SAYS("1 service up");
	snprintf(s->services.outcomes[0].problem, PROTOCOL_REASON_MAX, "in the way");
	SAYS("0 services up, 1 down: 192.0.2.20: in the way");
}

static void what_is_too_long_is_cut(void **state)
{
	struct scene *s = *state;
	char note[400];

	memset(note, 'n', sizeof(note) - 1);
	note[sizeof(note) - 1] = '\0';
	memset(s->services.outcomes[0].problem, 'p', PROTOCOL_REASON_MAX);
	memset(s->services.outcomes[1].problem, 'q', PROTOCOL_REASON_MAX);
	summary(&s->services, note, s->text);
	assert_int_equal(strlen(s->text), SUMMARY_MAX - 1);
	assert_memory_equal(s->text, note, 150);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(all_is_well),
		TEST(the_worst_counts_and_the_first_is_named),
		TEST(what_leaves_is_drained_and_counts_for_nobody),
		TEST(nothing_was_said_yet),
		TEST(static_ones_count_and_need_no_director),
		TEST(what_is_too_long_is_cut),
	};

	return cmocka_run_group_tests_name("summary", tests, NULL, NULL);
}
