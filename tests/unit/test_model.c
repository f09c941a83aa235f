// SPDX-License-Identifier: Apache-2.0
#include "director/desired.h"
#include "director/model.h"

#include <errno.h>
#include <linux/ip_vs.h>
#include <stdlib.h>

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct service_options service_on(const char *vip, uint16_t port, int protocol)
{
	struct service_options s = *(const struct service_options *)service_fields.defaults;

	s.port = port;
	s.protocol = protocol;
	snprintf(s.scheduler, sizeof(s.scheduler), "rr");
	assert_int_equal(inet_addr_parse(vip, &s.host), 0);
	s.family = s.host.family;
	return s;
}

static struct backend_options backend_on(const char *rip, uint16_t port, int method)
{
	struct backend_options b = *(const struct backend_options *)backend_fields.defaults;

	b.port = port;
	b.method = method;
	assert_int_equal(inet_addr_parse(rip, &b.host), 0);
	return b;
}

// Which way a backend's pulse goes: the port of the mark's destination, or -1 for the real server's own address.
static void test_ways_of_checks(void **state)
{
	struct model model = { 0 };
	const struct service_options on_port = service_on("10.0.0.1", 80, IPPROTO_TCP);
	struct service_options by_mark = *(const struct service_options *)service_fields.defaults;
	const struct {
		bool mark;
		int method, via;
		uint16_t port, check_port;
		int way;
	} rows[] = {
		{ false, FORWARD_DR, CHECK_VIA_AUTO, 80, 0, 0 }, { false, FORWARD_GRE, CHECK_VIA_AUTO, 80, 80, 0 },
		{ false, FORWARD_DR, CHECK_VIA_RIP, 80, 0, -1 },
		{ false, FORWARD_DR, CHECK_VIA_AUTO, 80, 8080, -1 }, // perhaps a port that is for checks only
		{ false, FORWARD_DR, CHECK_VIA_VIP, 80, 8080, 0 }, { false, FORWARD_NAT, CHECK_VIA_AUTO, 8080, 0, -1 },
		{ false, FORWARD_NAT, CHECK_VIA_VIP, 8080, 0, 8080 },
		{ false, FORWARD_NAT, CHECK_VIA_VIP, 8080, 9000, 0 },
		{ true, FORWARD_DR, CHECK_VIA_VIP, 0, 80, -1 }, // no VIP
	};

	(void)state;
	by_mark.fwmark = 7;
	struct service *services[] = { model_add_service(&model, "port", &on_port),
		model_add_service(&model, "mark", &by_mark) };
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backend_options options = backend_on("10.0.0.2", rows[i].port, rows[i].method);
		struct probe_way way;

		options.pulse.via = rows[i].via;
		options.pulse.args.port = rows[i].check_port;
		struct backend *b = model_add_backend(services[rows[i].mark], "b", &options, NULL);
		const bool along = model_probe_way(b, &way);
		assert_int_equal(along, rows[i].way >= 0);
		if (along)
			assert_int_equal(way.to.port, rows[i].way);
		assert_int_equal(model_probe_to(b, along).port, along ? 80 : rows[i].port);
		model_remove_backend(b);
	}
	model_clear(&model);
}

static void test_pairs_that_the_kernel_cannot_serve(void **state)
{
	struct model model = { 0 };
	struct service_options options = service_on("10.0.0.1", 80, IPPROTO_UDP);
	struct service *s = model_add_service(&model, "s", &options);
	const struct {
		struct backend_options backend;
		bool ops;
		int rc;
		const char *field;
	} rows[] = {
		{ backend_on("10.0.0.2", 80, FORWARD_DR), false, 0, "" },
		{ backend_on("10.0.0.2", 0, FORWARD_DR), false, 0, "" }, // the service's port
		{ backend_on("10.0.0.2", 81, FORWARD_DR), false, -EINVAL, "port" },
		{ backend_on("10.0.0.2", 81, FORWARD_IPIP), false, -EINVAL, "port" },
		{ backend_on("10.0.0.2", 81, FORWARD_NAT), false, 0, "" },
		{ backend_on("fd00::2", 80, FORWARD_DR), false, -EINVAL, "host" },
		{ backend_on("fd00::2", 80, FORWARD_NAT), false, -EINVAL, "host" },
		{ backend_on("fd00::2", 80, FORWARD_IPIP), false, 0, "" },
		{ backend_on("10.0.0.2", 80, FORWARD_NAT), true, -EINVAL, "method" },
		{ backend_on("10.0.0.2", 80, FORWARD_DR), true, 0, "" },
		{ backend_on("10.0.0.1", 80, FORWARD_IPIP), false, -EINVAL, "host" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct backend_options b = rows[i].backend;
		struct err err = { 0 };

		s->options.ops = rows[i].ops;
		assert_int_equal(model_check_backend(&s->options, &b, NULL, &err), rows[i].rc);
		assert_string_equal(err.field, rows[i].field);
		if (!rows[i].rc)
			assert_int_not_equal(b.port, 0);
	}
	model_clear(&model);
}

static void test_service_changes(void **state)
{
	struct model model = { 0 };
	struct service_options options = service_on("10.0.0.1", 53, IPPROTO_UDP), next = options;
	struct backend_options b = backend_on("10.0.0.2", 53, FORWARD_NAT);
	struct err err = { 0 };

	(void)state;
	struct service *s = model_add_service(&model, "dns", &options);
	model_add_backend(s, "b", &b, NULL);
	assert_null(model_moved_service(s, &next));
	next.port = 54;
	assert_string_equal(model_moved_service(s, &next), "port");
	next = service_on("fd00::1", 53, IPPROTO_UDP);
	assert_string_equal(model_moved_service(s, &next), "host");
	next = options;
	next.ops = true; // does not fit the nat backend that is there
	assert_int_equal(model_check_service_fits(s, &next, &err), -EINVAL);
	assert_non_null(strstr(err.text, "backend b would not fit"));
	model_clear(&model);
}

// What a service may not say at once, and the field that is named.
static void test_services_that_cannot_be(void **state)
{
	static const struct {
		const char *json, *field;
	} rows[] = {
		{ "{\"host\": \"10.0.0.1\", \"port\": 80}", NULL },
		{ "{\"port\": 80}", "host" },
		{ "{\"host\": \"10.0.0.1\"}", "port" },
		{ "{\"host\": \"127.0.0.1\", \"port\": 80}", "host" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 0}", "port" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 0, \"persistent\": true}", NULL },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"ops\": true}", "ops" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"family\": \"ipv6\"}", "family" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"netmask\": 24}", "netmask" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"persistent\": true, \"netmask\": 64}", "netmask" },
		{ "{\"host\": \"fd00::1\", \"port\": 80, \"persistent\": true, \"netmask\": 64}", NULL },
		{ "{\"host\": \"10.0.0.1\", \"port\": 80, \"persistent\": true, \"pe\": \"sip\"}", "pe" },
		{ "{\"host\": \"10.0.0.1\", \"port\": 5060, \"protocol\": \"udp\", \"pe\": \"sip\"}", "pe" },
		{ "{\"fwmark\": 7}", NULL },
		{ "{\"fwmark\": 7, \"family\": \"ipv6\"}", NULL },
		{ "{\"fwmark\": 7, \"host\": \"10.0.0.1\"}", "host" },
		{ "{\"fwmark\": 7, \"port\": 80}", "port" },
		{ "{\"fwmark\": 7, \"protocol\": \"tcp\"}", "protocol" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		json_t *json = json_loads(rows[i].json, 0, NULL);
		struct service_options s;
		struct err err = { 0 };
		int rc = field_parse(&service_fields, json, &s, &err);

		json_decref(json);
		if (!rc)
			rc = model_check_service(&s, NULL, &err);
		assert_int_equal(rc, rows[i].field ? -EINVAL : 0);
		assert_string_equal(err.field, rows[i].field ? rows[i].field : "");
	}
}

static void test_cursor_steps_over_what_goes(void **state)
{
	struct model model = { 0 };
	struct model_cursor cursor = { 0 };
	struct service *s[3];
	struct backend *b[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct service_options options = service_on("10.0.0.1", (uint16_t)(80 + i), IPPROTO_TCP);
		const char name[] = { (char)('a' + i), '\0' };

		s[i] = model_add_service(&model, name, &options);
	}
	for (int i = 0; i < 3; i++) {
		struct backend_options options = backend_on("10.0.0.2", (uint16_t)(90 + i), FORWARD_NAT);
		const char name[] = { (char)('a' + i), '\0' };

		b[i] = model_add_backend(s[1], name, &options, NULL);
	}
	model_cursor_start(&cursor, &model);
	assert_ptr_equal(cursor.service, s[0]);
	model_remove_service(s[0]);
	assert_ptr_equal(cursor.service, s[1]);
	assert_ptr_equal(cursor.backend, b[0]);
	model_remove_backend(b[0]);
	assert_ptr_equal(cursor.backend, b[1]);
	model_remove_backend(b[2]);
	cursor.backend = cursor.backend->next;
	assert_null(cursor.backend);
	model_cursor_advance(&cursor);
	assert_ptr_equal(cursor.service, s[2]);
	model_remove_service(s[2]);
	assert_null(cursor.service);
	model_cursor_stop(&cursor, &model);
	model_clear(&model);
}

static void test_places_and_names_are_found(void **state)
{
	struct model model = { 0 };
	struct service_options options = service_on("10.0.0.1", 80, IPPROTO_TCP);
	struct backend_options one = backend_on("10.0.0.2", 80, FORWARD_DR),
			       two = backend_on("10.0.0.3", 80, FORWARD_DR);
	struct backend_options back;
	struct inet_endpoint at = { one.host, 80 };

	(void)state;
	struct service *s = model_add_service(&model, "s", &options);
	struct backend *b = model_add_backend(s, "b", &one, NULL);
	assert_ptr_equal(model_backend(s, "b"), b);
	assert_null(model_backend(s, "bb"));
	assert_ptr_equal(model_backend_at(s, &at), b);
	snprintf(two.labels.items[0].name, sizeof(two.labels.items[0].name), "version");
	snprintf(two.labels.items[0].value, sizeof(two.labels.items[0].value), "b");
	two.labels.count = 1;
	assert_int_equal(model_set_backend(b, &two), 0);
	assert_null(model_backend_at(s, &at));
	at.addr = two.host;
	assert_ptr_equal(model_backend_at(s, &at), b);
	assert_string_equal(model_label(b, "version"), "b");
	assert_null(model_label(b, "zone"));
	model_backend_options(b, &back);
	char names[64];
	assert_int_equal(field_diff(&backend_fields, &two, &back, names, sizeof(names)), 0);
	// two backends that are checked alike share the check
	struct backend_options three = backend_on("10.0.0.4", 80, FORWARD_DR);
	struct backend *c = model_add_backend(s, "c", &three, NULL);
	assert_ptr_equal(b->pulse, c->pulse);
	three.pulse.interval_ms = 77000;
	assert_int_equal(model_set_backend(c, &three), 0);
	assert_ptr_not_equal(b->pulse, c->pulse);
	model_clear(&model);
}

static void test_lookup_by_key(void **state)
{
	struct model model = { 0 };
	struct service_options tcp = service_on("10.0.0.1", 53, IPPROTO_TCP),
			       udp = service_on("10.0.0.1", 53, IPPROTO_UDP);

	(void)state;
	struct service *a = model_add_service(&model, "a", &tcp);
	struct ipvs_key key, other;
	model_key(&tcp, &key);
	model_key(&udp, &other);
	assert_ptr_equal(model_service_by_key(&model, &key), a);
	assert_null(model_service_by_key(&model, &other));
	assert_int_equal(model_set_service(a, &udp), 0); // another key
	assert_null(model_service_by_key(&model, &key));
	assert_ptr_equal(model_service_by_key(&model, &other), a);
	model_remove_service(a);
	assert_null(model_service_by_key(&model, &other));
}

static void test_weight_follows_status(void **state)
{
	struct model model = { 0 };
	struct service_options options = service_on("10.0.0.1", 80, IPPROTO_TCP);
	struct backend_options b = backend_on("10.0.0.2", 80, FORWARD_DR);
	struct service *s = model_add_service(&model, "s", &options);
	struct agent *agent = model_add_agent(&model, "n");
	struct backend *api = model_add_backend(s, "api", &b, NULL);
	b = backend_on("10.0.0.1", 80, FORWARD_IPIP);
	struct backend *ours = model_add_backend(s, "n", &b, agent);
	static const struct {
		int said;
		bool lost;
		enum judge_verdict verdict;
		enum backend_status status;
	} rows[] = { { PROTOCOL_UP, false, JUDGE_UP, STATUS_UP }, { PROTOCOL_SETUP, false, JUDGE_UP, STATUS_SETUP },
		{ PROTOCOL_DRAIN, false, JUDGE_DOWN, STATUS_DRAIN }, { PROTOCOL_DOWN, false, JUDGE_UP, STATUS_DOWN },
		{ PROTOCOL_DOWN, false, JUDGE_UNKNOWN, STATUS_DOWN },
		{ PROTOCOL_UP, false, JUDGE_UNKNOWN, STATUS_UNKNOWN }, { PROTOCOL_UP, false, JUDGE_DOWN, STATUS_DOWN },
		{ PROTOCOL_UP, true, JUDGE_UP, STATUS_LOST } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ours->agent_state = (uint8_t)rows[i].said;
		agent->lost = rows[i].lost;
		judge_set(&model_health(ours)->judge, rows[i].verdict, 0);
		assert_int_equal(desired_status(ours), rows[i].status);
		assert_int_equal(desired_weight(ours), rows[i].status == STATUS_UP ? 100 : 0);
	}
	assert_int_equal(desired_weight(api), 100);
	judge_set(&model_health(api)->judge, JUDGE_DOWN, 0);
	assert_int_equal(desired_weight(api), 0);
	judge_set(&model_health(api)->judge, JUDGE_UP, 0);
	model_come_back(api, 0, 50); // thousandths
	assert_int_equal(desired_weight(api), 5);
	model_come_back(api, 0, 1);
	assert_int_equal(desired_weight(api), 1);
	model_is_back(api);
	assert_int_equal(desired_weight(api), 100);

	struct ipvs_dest *dests = NULL;
	size_t count = 0;
	assert_int_equal(desired_dests(s, &dests, &count), 0);
	assert_int_equal(count, 2);
	assert_true(ipvs_dest_cmp(&dests[0], &dests[1]) < 0); // sorted
	assert_int_equal(dests[0].forward, IP_VS_CONN_F_TUNNEL);
	assert_int_equal(dests[1].forward, IP_VS_CONN_F_DROUTE);
	free(dests);

	struct ipvs_service kernel;
	s->options.persistent_s = 90;
	s->options.ops = true;
	desired_service(s, &kernel);
	assert_int_equal(kernel.flags, IP_VS_SVC_F_PERSISTENT | IP_VS_SVC_F_ONEPACKET);
	assert_int_equal(kernel.timeout_s, 90);
	assert_int_equal(kernel.netmask, UINT32_MAX);
	model_clear(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_ways_of_checks),
		cmocka_unit_test(test_pairs_that_the_kernel_cannot_serve), cmocka_unit_test(test_service_changes),
		cmocka_unit_test(test_lookup_by_key), cmocka_unit_test(test_weight_follows_status),
		cmocka_unit_test(test_services_that_cannot_be), cmocka_unit_test(test_cursor_steps_over_what_goes),
		cmocka_unit_test(test_places_and_names_are_found) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
