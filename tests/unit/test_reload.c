// SPDX-License-Identifier: Apache-2.0
#include "agent/reload.h"

#include <errno.h>
#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct config make(const char *run_dir, const char *const *services)
{
	struct config config = { .backends.items = calloc(8, sizeof(struct config_backend)) };

	snprintf(config.node, sizeof(config.node), "web-1");
	snprintf(config.run_dir, sizeof(config.run_dir), "%s", run_dir);
	for (; *services; services++)
		snprintf(
			config.backends.items[config.backends.count++].service, PROTOCOL_NAME_MAX + 1, "%s", *services);
	return config;
}

static void set_node(struct config *config, const char *name)
{
	snprintf(config->node, sizeof(config->node), "%s", name);
	for (size_t i = 0; i < config_fields.count; i++)
		if (strcmp(config_fields.rows[i].name, "node") == 0)
			config->set |= UINT64_C(1) << i;
	assert_true(field_is_set(&config_fields, config, "node"));
}

static void test_fields_that_stay(void **state)
{
	static const char *const services[] = { "web", NULL };
	struct config old = make("/run/brass", services), next = make("/run/brass", services);
	struct err err = { 0 };

	(void)state;
	assert_int_equal(reload_check(&old, &next, &err), 0);
	// the host was renamed; nobody has named the node
	snprintf(next.node, sizeof(next.node), "web-2");
	assert_int_equal(reload_check(&old, &next, &err), 0);
	assert_string_equal(next.node, "web-1");
	set_node(&next, "web-2");
	assert_int_equal(reload_check(&old, &next, &err), -EINVAL);
	assert_string_equal(err.field, "node");
	assert_non_null(strstr(err.text, "found web-2; a running agent keeps its name, web-1"));
	set_node(&next, "web-1");
	assert_int_equal(reload_check(&old, &next, &err), 0);
	snprintf(next.run_dir, sizeof(next.run_dir), "/run/other");
	assert_int_equal(reload_check(&old, &next, &err), -EINVAL);
	assert_string_equal(err.field, "run_dir");
	config_clear(&old);
	config_clear(&next);
}

static void names(const struct config *config, char *buf, size_t size)
{
	size_t len = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < config->backends.count; i++)
		len += (size_t)snprintf(buf + len, size - len, "%s%s ", config->backends.items[i].service,
			config->backends.items[i].leaving ? "-" : "");
}

static void test_what_is_gone_leaves(void **state)
{
	static const char *const first[] = { "a", "c", "e", NULL }, *const second[] = { "b", "c", NULL },
				 *const third[] = { "a", "b", NULL }, *const none[] = { NULL };
	struct config one = make("/run/brass", first), two = make("/run/brass", second),
		      three = make("/run/brass", third), four = make("/run/brass", none);
	char text[128];

	(void)state;
	assert_int_equal(reload_keep_leaving(&one, &two), 0);
	names(&two, text, sizeof(text));
	assert_string_equal(text, "a- b c e- ");
	// what comes back is not leaving, what still drains goes on
	assert_int_equal(reload_keep_leaving(&two, &three), 0);
	names(&three, text, sizeof(text));
	assert_string_equal(text, "a b c- e- ");
	assert_int_equal(reload_keep_leaving(&three, &four), 0);
	names(&four, text, sizeof(text));
	assert_string_equal(text, "a- b- c- e- ");
	config_clear(&one);
	config_clear(&two);
	config_clear(&three);
	config_clear(&four);
}

static void test_a_director_is_found_by_its_url(void **state)
{
	struct client a = { .url = "http://10.0.0.1:4672" }, b = { .url = "http://10.0.0.2:4672" };
	const struct client_list list = { .items = { &a, &b }, .count = 2 };

	(void)state;
	assert_ptr_equal(reload_find(&list, "http://10.0.0.2:4672"), &b);
	assert_ptr_equal(reload_find(&list, "http://10.0.0.1:4672//"), &a);
	assert_null(reload_find(&list, "http://10.0.0.3:4672"));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_fields_that_stay),
		cmocka_unit_test(test_what_is_gone_leaves), cmocka_unit_test(test_a_director_is_found_by_its_url) };

	return cmocka_run_group_tests_name("reload", tests, NULL, NULL);
}
