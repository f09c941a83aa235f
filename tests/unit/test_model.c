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
	struct service_options s = { .port = port, .protocol = protocol, .scheduler = "rr" };

	assert_int_equal(inet_addr_parse(vip, &s.host), 0);
	return s;
}

static struct backend_options backend_on(const char *rip, uint16_t port, int method)
{
	struct backend_options b = { .port = port, .weight = 100, .method = method };

	assert_int_equal(inet_addr_parse(rip, &b.host), 0);
	return b;
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
		assert_int_equal(model_check_backend(s, &b, &err), rows[i].rc);
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
	next.port = 54;
	assert_int_equal(model_check_service_change(s, &next, &err), -EINVAL);
	assert_string_equal(err.field, "port");
	next = options;
	next.ops = true; // does not fit the nat backend that is there
	assert_int_equal(model_check_service_change(s, &next, &err), -EINVAL);
	assert_non_null(strstr(err.text, "backend b would not fit"));
	next = service_on("10.0.0.1", 53, IPPROTO_TCP);
	next.ops = true;
	assert_int_equal(model_check_service(&next, &err), -EINVAL);
	assert_string_equal(err.field, "ops");
	model_clear(&model);
}

static void test_lookup_by_key(void **state)
{
	struct model model = { 0 };
	struct service_options tcp = service_on("10.0.0.1", 53, IPPROTO_TCP),
			       udp = service_on("10.0.0.1", 53, IPPROTO_UDP);

	(void)state;
	struct service *a = model_add_service(&model, "a", &tcp);
	assert_ptr_equal(model_service_by_key(&model, &tcp), a);
	assert_null(model_service_by_key(&model, &udp));
	model_remove_service(&model, a);
	assert_null(model_service_by_key(&model, &tcp));
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
		bool lost, down;
		enum backend_status status;
	} rows[] = { { PROTOCOL_UP, false, false, STATUS_UP }, { PROTOCOL_SETUP, false, false, STATUS_SETUP },
		{ PROTOCOL_DRAIN, false, true, STATUS_DRAIN }, { PROTOCOL_DOWN, false, false, STATUS_DOWN },
		{ PROTOCOL_UP, false, true, STATUS_DOWN }, { PROTOCOL_UP, true, false, STATUS_LOST } };

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ours->agent_state = rows[i].said;
		agent->lost = rows[i].lost;
		ours->health.down = rows[i].down;
		assert_int_equal(desired_status(ours), rows[i].status);
		assert_int_equal(desired_weight(ours), rows[i].status == STATUS_UP ? 100 : 0);
	}
	assert_int_equal(desired_weight(api), 100);
	api->health.down = true;
	assert_int_equal(desired_weight(api), 0);

	struct ipvs_dest *dests = NULL;
	size_t count = 0;
	assert_int_equal(desired_dests(s, &dests, &count), 0);
	assert_int_equal(count, 2);
	assert_true(ipvs_dest_cmp(&dests[0], &dests[1]) < 0); // sorted
	assert_int_equal(dests[0].forward, IP_VS_CONN_F_TUNNEL);
	assert_int_equal(dests[1].forward, IP_VS_CONN_F_DROUTE);
	assert_ptr_equal(desired_find_dest(dests, count, api), &dests[1]);
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
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_pairs_that_the_kernel_cannot_serve),
		cmocka_unit_test(test_service_changes), cmocka_unit_test(test_lookup_by_key),
		cmocka_unit_test(test_weight_follows_status) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
