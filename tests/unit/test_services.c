// SPDX-License-Identifier: Apache-2.0
#include "agent/services.h"

#include <netinet/in.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

// Two directors and a configuration with two backends. Both know "web", none knows "api" at first.
struct scene {
	struct config config;
	struct config_backend backends[2];
	struct client clients[2];
	struct protocol_service answers[2][2];
	struct services services;
	struct inet_addr address;
};

enum { API, WEB };

static struct inet_addr address(const char *text)
{
	struct inet_addr addr;

	assert_int_equal(inet_addr_parse(text, &addr), 0);
	return addr;
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));

	s->backends[API] =
		(struct config_backend) { .service = "api", .method = FORWARD_NAT, .port = 8080, .weight.base = 7 };
	s->backends[WEB] = (struct config_backend) { .service = "web", .method = FORWARD_DR, .weight.base = 100 };
	s->config.backends.items = s->backends;
	s->config.backends.count = 2;
	s->config.nat_table = 4672;
	s->config.ttl_ms = 10000;
	s->address = address("10.1.0.11");
	for (size_t c = 0; c < 2; c++) {
		struct client *client = &s->clients[c];

		s->answers[c][API] = (struct protocol_service) { .service = "api", .error = "no such service yet" };
		s->answers[c][WEB] = (struct protocol_service) {
			.service = "web",
			.known = true,
			.host = address("192.0.2.10"),
			.port = 80,
			.protocol = IPPROTO_TCP,
			.status = "up",
			.effective_weight = 100,
		};
		snprintf(client->url, sizeof(client->url), "http://10.1.0.%zu:4672", c + 1);
		client->peer = address(c ? "10.1.0.2" : "10.1.0.1");
		client->answer.services = s->answers[c];
		client->answer.count = 2;
		client->has_answer = client->fresh = true;
	}
	assert_int_equal(services_init(&s->services, &s->config, s->clients, 2), 0);
	services_build(&s->services, &s->address);
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

static void know_api(struct scene *s, size_t client)
{
	s->answers[client][API].known = true;
	s->answers[client][API].host = address("192.0.2.11");
	s->answers[client][API].port = 443;
	s->answers[client][API].protocol = IPPROTO_TCP;
	services_build(&s->services, &s->address);
}

static void what_no_director_knows_is_not_wanted(void **state)
{
	struct scene *s = *state;

	assert_int_equal(s->services.spec.count, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_string_equal(s->services.spec.services[i].name, "web");
		assert_ptr_equal(s->services.outcomes[i].client, &s->clients[i]);
	}
	s->clients[0].has_answer = false;
	services_build(&s->services, &s->address);
	assert_int_equal(s->services.spec.count, 1);
	assert_ptr_equal(s->services.outcomes[0].client, &s->clients[1]);
}

static void without_an_address_nothing_is_wanted(void **state)
{
	struct scene *s = *state;
	const struct inet_addr none = { 0 };

	services_build(&s->services, &none);
	assert_int_equal(s->services.spec.count, 0);
}

static void static_ones_need_no_director_and_dr_no_address(void **state)
{
	struct scene *s = *state;
	struct config_static items[] = {
		{ .host = address("192.0.2.10"), .method = FORWARD_DR, .port = 80, .protocol = IPPROTO_TCP },
		{ .host = address("192.0.2.20"), .method = FORWARD_IPIP, .protocol = IPPROTO_TCP },
	};
	const struct inet_addr none = { 0 };

	s->config.statics.items = items;
	s->config.statics.count = 2;
	services_clear(&s->services);
	assert_int_equal(services_init(&s->services, &s->config, s->clients, 2), 0);
	services_build(&s->services, &none);
	assert_int_equal(s->services.spec.count, 1);
	assert_ptr_equal(s->services.outcomes[0].fixed, &items[0]);
	services_build(&s->services, &s->address);
	assert_int_equal(s->services.spec.count, 4);
	// a program is looked for where a port is named
	assert_int_equal(services_item(&s->services, 2).check->kind, LOCAL_LISTEN);
	assert_int_equal(services_item(&s->services, 3).check->kind, LOCAL_NONE);
	// they are no news to a director
	assert_true(services_are_current(&s->services, &s->clients[0]));
	json_t *report = services_report(&s->services, &s->clients[0], "boot", false);
	assert_int_equal(json_object_size(json_object_get(report, "backends")), 2);
	json_decref(report);
}

static void what_an_operator_drains_is_said(void **state)
{
	struct scene *s = *state;
	struct drain items[] = { { .service = "web", .state = DRAIN_QUIET } };
	const struct drains drains = { .items = items, .count = 1 };

	s->services.drains = &drains;
	json_t *report = services_report(&s->services, &s->clients[0], "boot", false);
	json_t *web = json_object_get(json_object_get(report, "backends"), "web");

	assert_string_equal(json_string_value(json_object_get(web, "state")), "drain");
	assert_string_equal(json_string_value(json_object_get(web, "reason")), "an operator asked for it");
	// the VIP is still said: it stays
	assert_string_equal(json_string_value(json_object_get(web, "vip")), "192.0.2.10");
	json_decref(report);
	items[0].service[0] = '\0'; // all
	report = services_report(&s->services, &s->clients[0], "boot", false);
	assert_string_equal(json_string_value(json_object_get(
				    json_object_get(json_object_get(report, "backends"), "api"), "state")),
		"drain");
	json_decref(report);
}

static void a_port_of_ones_own_counts(void **state)
{
	struct scene *s = *state;

	know_api(s, 0);
	assert_int_equal(s->services.spec.count, 3);
	assert_string_equal(s->services.spec.services[0].name, "api");
	assert_int_equal(s->services.spec.services[0].port, 8080);
	assert_int_equal(s->services.spec.services[1].port, 80);
}

static void replies_go_to_the_director_or_where_the_file_says(void **state)
{
	struct scene *s = *state;
	static const struct {
		const char *peer, *configured, *gateway;
	} cases[] = {
		{ "10.1.0.1", NULL, "10.1.0.1" },
		{ "10.1.0.1", "10.1.0.254", "10.1.0.254" },
		{ "127.0.0.1", NULL, NULL }, // a director on this host, or behind a tunnel
		{ "fd00:1::1", NULL, NULL }, // cannot be the gateway of IPv4
		{ "fd00:1::1", "10.1.0.254", "10.1.0.254" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		s->clients[0].peer = address(cases[i].peer);
		s->config.gateway = cases[i].configured ? address(cases[i].configured) : (struct inet_addr) { 0 };
		know_api(s, 0);
		const struct inet_addr *gateway = &s->services.spec.services[0].gateway;
		if (cases[i].gateway) {
			const struct inet_addr expected = address(cases[i].gateway);

			assert_int_equal(inet_addr_cmp(gateway, &expected), 0);
		} else {
			assert_false(inet_addr_is_set(gateway));
		}
	}
}

static void a_change_of_the_answer_is_noticed(void **state)
{
	struct scene *s = *state;

	assert_true(services_are_current(&s->services, &s->clients[0]));
	// what the director sees is not what the host must be
	s->answers[0][WEB].active = 9;
	s->answers[0][WEB].effective_weight = 0;
	assert_true(services_are_current(&s->services, &s->clients[0]));

	s->answers[0][WEB].host = address("192.0.2.99");
	assert_false(services_are_current(&s->services, &s->clients[0]));
	assert_true(services_are_current(&s->services, &s->clients[1]));
	services_build(&s->services, &s->address);
	assert_true(services_are_current(&s->services, &s->clients[0]));

	s->answers[0][WEB].known = false;
	assert_false(services_are_current(&s->services, &s->clients[0]));
	services_build(&s->services, &s->address);
	s->answers[0][WEB].known = true;
	assert_false(services_are_current(&s->services, &s->clients[0]));
}

static const char *reported(const struct scene *s, size_t client, const char *service, const char *field, bool draining)
{
	static char text[PROTOCOL_REASON_MAX + 1];
	json_t *report = services_report(&s->services, &s->clients[client], "b00t", draining);
	const json_t *backend = json_object_get(json_object_get(report, "backends"), service);
	const char *value = json_string_value(json_object_get(backend, field));

	snprintf(text, sizeof(text), "%s", value ? value : "");
	json_decref(report);
	return text;
}

static void states_follow_what_came_of_it(void **state)
{
	struct scene *s = *state;

	assert_string_equal(reported(s, 0, "api", "state", false), "setup");
	assert_string_equal(reported(s, 0, "web", "state", false), "up");
	assert_string_equal(reported(s, 0, "web", "vip", false), "192.0.2.10");

	snprintf(s->services.outcomes[1].problem, sizeof(s->services.outcomes[1].problem), "in the way");
	assert_string_equal(reported(s, 0, "web", "state", false), "up");
	assert_string_equal(reported(s, 1, "web", "state", false), "down");
	assert_string_equal(reported(s, 1, "web", "reason", false), "in the way");

	assert_string_equal(reported(s, 0, "web", "state", true), "drain");
	assert_string_equal(reported(s, 0, "api", "state", true), "drain");
}

static void status_says_why(void **state)
{
	struct scene *s = *state;
	json_t *json = services_status(&s->services, &s->clients[0], &s->backends[API], false);

	assert_string_equal(json_string_value(json_object_get(json, "reason")), "no such service yet");
	json_decref(json);

	s->clients[1].has_answer = s->clients[1].fresh = false;
	services_build(&s->services, &s->address);
	json = services_status(&s->services, &s->clients[1], &s->backends[WEB], false);
	assert_string_equal(json_string_value(json_object_get(json, "reason")), "the director has not said what it is");
	assert_string_equal(json_string_value(json_object_get(json, "status")), "unknown");
	json_decref(json);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(what_no_director_knows_is_not_wanted),
		TEST(without_an_address_nothing_is_wanted),
		TEST(static_ones_need_no_director_and_dr_no_address),
		TEST(what_an_operator_drains_is_said),
		TEST(a_port_of_ones_own_counts),
		TEST(replies_go_to_the_director_or_where_the_file_says),
		TEST(a_change_of_the_answer_is_noticed),
		TEST(states_follow_what_came_of_it),
		TEST(status_says_why),
	};

	return cmocka_run_group_tests_name("services", tests, NULL, NULL);
}
