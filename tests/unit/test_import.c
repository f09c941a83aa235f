// SPDX-License-Identifier: Apache-2.0
#include "director/cli/import.h"

#include <setjmp.h> // cmocka.h needs these four
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void note(void *ctx, size_t line, const char *why)
{
	size_t n = strlen(ctx);

	snprintf((char *)ctx + n, 2000 - n, "%zu: %s\n", line, why);
}

static void assert_import(const char *text, int taken, const char *services, const char *refused)
{
	json_t *got = json_object(), *want = json_loads(services, 0, NULL);
	char notes[2000] = "";

	assert_non_null(want);
	assert_int_equal(import_table(text, got, note, notes), taken);
	if (!json_equal(got, want)) {
		char *dump = json_dumps(got, 0);

		print_error("%s\n", dump);
		fail();
	}
	assert_string_equal(notes, refused);
	json_decref(got);
	json_decref(want);
}

static void test_services_and_destinations(void **state)
{
	(void)state;
	assert_import("-A -t 10.0.0.1:80 -s wlc -p 90 -M 255.255.255.0\n"
		      "-a -t 10.0.0.1:80 -r 10.0.0.11:80 -g -w 3 -x 10 -y 5\n"
		      "\n# a comment\n"
		      "-A -u [fd00::1]:53 -s rr -o\r\n"
		      "-a -u [fd00::1]:53 -r [::2]:53 -i -w 1 --tun-type ipip\n",
		4,
		"{\"tcp-10.0.0.1-80\": {\"host\": \"10.0.0.1\", \"port\": 80, \"method\": \"wlc\", \"persistent\": "
		"\"90s\","
		" \"netmask\": \"255.255.255.0\", \"backends\": {\"10.0.0.11-80\": {\"host\": \"10.0.0.11\", \"port\": "
		"80,"
		" \"method\": \"dr\", \"weight\": 3, \"upper\": 10, \"lower\": 5, \"pulse\": {\"type\": \"none\"}}}},"
		" \"udp-fd00::1-53\": {\"host\": \"fd00::1\", \"port\": 53, \"protocol\": \"udp\", \"method\": \"rr\", "
		"\"ops\": true,"
		" \"backends\": {\"b::2-53\": {\"host\": \"::2\", \"port\": 53, \"method\": \"ipip\", \"weight\": 1,"
		" \"pulse\": {\"type\": \"none\"}}}}}",
		"");
}

static void test_marks_of_both_families(void **state)
{
	(void)state;
	assert_import("-A -f 7 -s mh -b mh-port,mh-fallback\n"
		      "-A -f 8 -s sh\n"
		      "-A -f 7 -6 -s rr\n"
		      "-a -f 7 -6 -r [fd00::2]:0 -i --tun-type gue --tun-port 6080 --tun-remcsum\n",
		4,
		"{\"fwmark-7\": {\"fwmark\": 7, \"method\": \"mh\", \"flags\": \"mh-port,mh-fallback\"},"
		" \"fwmark-8\": {\"fwmark\": 8, \"method\": \"sh\", \"flags\": \"none\"},"
		" \"fwmark6-7\": {\"fwmark\": 7, \"family\": \"ipv6\", \"method\": \"rr\", \"backends\": "
		"{\"fd00::2-0\":"
		" {\"host\": \"fd00::2\", \"method\": \"gue\", \"tunnel\": {\"port\": 6080, \"checksum\": \"remote\"},"
		" \"pulse\": {\"type\": \"none\"}}}}}",
		"");
}

static void test_what_cannot_be_taken(void **state)
{
	(void)state;
	assert_import("-A -t www:http -s rr\n"
		      "-a -t www:http -r x:80 -g\n"
		      "-A -t 10.0.0.1:80 --frob\n"
		      "-A -t 10.0.0.1:80 -s\n"
		      "-A -s rr\n"
		      "-C\n"
		      "-A -t 10.0.0.1:80 -s rr\n"
		      "-A -t 10.0.0.1:80 -s wrr\n"
		      "-a -t 10.0.0.1:80 -w many -r 10.0.0.2:80\n"
		      "-a -t 10.0.0.1:80 -g\n"
		      "-a -t 10.0.0.1:80 -s rr -r 10.0.0.2:80\n"
		      "-A -f \v7 -s rr\n"
		      "-A -f -7 -s rr\n"
		      "-A -t 10.0.0.2:80 -s \xff\n"
		      "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -i --tun-type gue --tun-port 6080x\n",
		1, "{\"tcp-10.0.0.1-80\": {\"host\": \"10.0.0.1\", \"port\": 80, \"method\": \"rr\"}}",
		"1: \"www:http\" is no ADDRESS:PORT in numbers; use ipvsadm -Sn\n"
		"2: \"www:http\" is no ADDRESS:PORT in numbers; use ipvsadm -Sn\n"
		"3: --frob is not known here\n"
		"4: -s needs a value\n"
		"5: it names no service\n"
		"6: it begins with \"-C\", known are -A and -a\n"
		"8: service tcp-10.0.0.1-80 is there already\n"
		"9: \"many\" is no number\n"
		"10: it names no real server\n"
		"11: -s is not known here\n"
		"12: \"\v7\" is no number\n"
		"13: \"-7\" is no number\n"
		"14: the value of method is not valid UTF-8\n"
		"15: \"6080x\" is no number\n");
}

static void test_services_that_are_there(void **state)
{
	json_t *services = json_loads("{\"web\": {\"host\": \"10.0.0.1\", \"port\": 80}}", 0, NULL);
	char notes[2000] = "";

	(void)state;
	assert_int_equal(
		import_table("-A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 10.0.0.2:80 -g\n-A -u 10.0.0.1:80 -s rr\n",
			services, note, notes),
		1);
	assert_string_equal(notes, "1: service web is there already\n2: its service was not taken\n");
	assert_int_equal(json_object_size(services), 2);
	json_decref(services);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_services_and_destinations),
		cmocka_unit_test(test_marks_of_both_families), cmocka_unit_test(test_what_cannot_be_taken),
		cmocka_unit_test(test_services_that_are_there) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
