// SPDX-License-Identifier: Apache-2.0
#include "shared/check_text.h"

#include "shared/util.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <resolv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static int digit(char c)
{
	return isdigit((unsigned char)c)     ? c - '0'
		: isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
					     : -1;
}

int check_text_bytes(const char *text, char *ret, size_t *ret_len)
{
	const size_t len = strlen(text);

	if (strncmp(text, "hex:", 4) != 0) {
		memcpy(ret, text, len);
		*ret_len = len;
		return 0;
	}
	if (len % 2)
		return -EINVAL;
	for (size_t i = 4; i < len; i += 2) {
		const int high = digit(text[i]), low = digit(text[i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		ret[i / 2 - 2] = (char)(high << 4 | low);
	}
	*ret_len = (len - 4) / 2;
	return 0;
}

// --- statuses ---

// One status of three digits; NULL: it is none.
static const char *read_status(const char *text, long *ret)
{
	for (int i = 0; i < 3; i++)
		if (!isdigit((unsigned char)text[i]))
			return NULL;
	*ret = (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
	return *ret >= 100 && *ret <= 599 ? text + 3 : NULL;
}

// The next range of the set; NULL: it is none.
static const char *read_range(const char *set, long *first, long *last)
{
	set += strspn(set, " ");
	set = read_status(set, first);
	*last = *first;
	if (set && *set == '-')
		set = read_status(set + 1, last);
	if (!set || *last < *first)
		return NULL;
	set += strspn(set, " ");
	return *set == ',' ? set + 1 : *set ? NULL : set;
}

int check_text_status_ok(const char *set)
{
	const char *at = set;
	long first = 0, last = 0;

	do {
		at = read_range(at, &first, &last);
	} while (at && *at);
	return at && at > set && at[-1] != ',' ? 0 : -EINVAL;
}

bool check_text_has_status(const char *set, long status)
{
	long first = 0, last = 0;

	if (!*set)
		return status == 200;
	while (set && *set) {
		set = read_range(set, &first, &last);
		if (set && status >= first && status <= last)
			return true;
	}
	return false;
}

int check_text_http_status(const char *answer, size_t len, bool ended, long *ret)
{
	static const char protocol[] = "HTTP/1.";
	const size_t line = sizeof(protocol) - 1 + 5; // and the minor version, a blank, three digits

	for (;;) {
		if (memcmp(answer, protocol, len < sizeof(protocol) - 1 ? len : sizeof(protocol) - 1) != 0)
			return -EINVAL;
		if (len < line)
			return ended ? -EINVAL : -EAGAIN;
		if (!isdigit((unsigned char)answer[line - 5]) || answer[line - 4] != ' ' ||
			!read_status(answer + line - 3, ret))
			return -EINVAL;
		const char *end = memmem(answer, len, "\r\n\r\n", 4);

		if (*ret >= 200 || *ret == 101)
			return end || ended ? 0 : -EAGAIN;
		if (!end)
			return ended ? -EINVAL : -EAGAIN;
		len -= (size_t)(end + 4 - answer);
		answer = end + 4;
	}
}

const char *check_text_quote(const char *bytes, size_t len, char *buf, size_t size)
{
	size_t n = 0;

	for (; n < len && n + 1 < size; n++)
		buf[n] = isprint((unsigned char)bytes[n]) ? bytes[n] : '.';
	buf[n] = '\0';
	return buf;
}

// --- DNS ---

int check_text_dns_query(const char *name, int type, uint16_t id, unsigned char ret[CHECK_DNS_QUERY_MAX])
{
	unsigned char *const at = ret + NS_HFIXEDSZ;

	memset(ret, 0, NS_HFIXEDSZ);
	ret[0] = (unsigned char)(id >> 8);
	ret[1] = (unsigned char)id;
	ret[2] = 0x01; // recursion desired
	ret[5] = 1;    // one question
	int n = ns_name_compress(name, at, NS_MAXCDNAME, NULL, NULL);

	if (n < 0 || n > NS_MAXCDNAME)
		return -EINVAL;
	at[n] = (unsigned char)(type >> 8);
	at[n + 1] = (unsigned char)type;
	at[n + 2] = 0;
	at[n + 3] = ns_c_in;
	return NS_HFIXEDSZ + n + 4;
}
static_assert(NS_HFIXEDSZ + NS_MAXCDNAME + 4 <= CHECK_DNS_QUERY_MAX, "the longest name fits");

int check_text_dns_name(const char *name, struct err *err)
{
	unsigned char query[CHECK_DNS_QUERY_MAX];

	return check_text_dns_query(name, ns_t_a, 0, query) < 0
		? err_set(err, -EINVAL, "args.name", "found \"%.80s\", allowed is a domain name", name)
		: 0;
}

static const char *rcode_name(int rcode)
{
	static const char *const names[] = { "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED" };

	return rcode < (int)ARRAY_SIZE(names) ? names[rcode] : "an error";
}

// The name in a record, at this place of its data.
static int read_name(const ns_msg *message, const ns_rr *record, size_t at, char *buf, size_t size)
{
	return at > ns_rr_rdlen(*record)
		? -1
		: dn_expand(ns_msg_base(*message), ns_msg_end(*message), ns_rr_rdata(*record) + at, buf, (int)size);
}

// The strings of a TXT record, one behind the other.
static bool read_strings(const ns_rr *record, char *buf, size_t size)
{
	const unsigned char *data = ns_rr_rdata(*record);
	size_t n = 0;

	for (size_t at = 0; at < ns_rr_rdlen(*record); at += data[at] + 1u) {
		if (at + 1 + data[at] > ns_rr_rdlen(*record) || n + data[at] + 1u > size)
			return false;
		memcpy(buf + n, data + at + 1, data[at]);
		n += data[at];
	}
	buf[n] = '\0';
	return true;
}

// What a record says, as dig prints it, without the dot that ends a name and the quotes of a text; of SOA the name of
// the server. False: it cannot be read.
static bool print_record(const ns_msg *message, const ns_rr *record, char *buf, size_t size)
{
	const unsigned char *data = ns_rr_rdata(*record);
	const size_t len = ns_rr_rdlen(*record);
	char name[NS_MAXDNAME];

	switch ((int)ns_rr_type(*record)) {
	case ns_t_a:
		return len == 4 && inet_ntop(AF_INET, data, buf, (socklen_t)size);
	case ns_t_aaaa:
		return len == 16 && inet_ntop(AF_INET6, data, buf, (socklen_t)size);
	case ns_t_txt:
		return read_strings(record, buf, size);
	case ns_t_mx:
		if (len < 2 || read_name(message, record, 2, name, sizeof(name)) < 0)
			return false;
		snprintf(buf, size, "%u %s", ns_get16(data), name);
		return true;
	case ns_t_srv:
		if (len < 6 || read_name(message, record, 6, name, sizeof(name)) < 0)
			return false;
		snprintf(buf, size, "%u %u %u %s", ns_get16(data), ns_get16(data + 2), ns_get16(data + 4), name);
		return true;
	default:
		return read_name(message, record, 0, buf, size) >= 0;
	}
}

static bool same_record(const char *found, const char *expect)
{
	const size_t len = strlen(found);

	return strncasecmp(found, expect, len) == 0 && (!expect[len] || strcmp(expect + len, ".") == 0);
}

int check_text_dns_answer(
	const unsigned char *bytes, size_t len, uint16_t id, int type, const char *expect, char *why, size_t size)
{
	char found[NS_MAXDNAME + 24] = "", said[81];
	ns_msg message;
	ns_rr record;

	if (len < NS_HFIXEDSZ || ns_initparse(bytes, (int)len, &message) || ns_msg_id(message) != id ||
		!ns_msg_getflag(message, ns_f_qr))
		return -EAGAIN;
	if (ns_msg_getflag(message, ns_f_rcode) != ns_r_noerror) {
		snprintf(why, size, "answered %s", rcode_name(ns_msg_getflag(message, ns_f_rcode)));
		return 0;
	}
	for (int i = 0; i < ns_msg_count(message, ns_s_an); i++) {
		if (ns_parserr(&message, ns_s_an, i, &record) || (int)ns_rr_type(record) != type ||
			!print_record(&message, &record, found, sizeof(found)))
			continue;
		if (!*expect || same_record(found, expect))
			return 1;
	}
	if (*found)
		snprintf(why, size, "answered %s, expected %.80s",
			check_text_quote(found, strlen(found), said, sizeof(said)), expect);
	else
		snprintf(why, size, "answered without such a record");
	return 0;
}

// --- gRPC ---

// A frame is a byte (0: not compressed) and four of length; the message's one field is number 1, a text.
size_t check_text_grpc_request(const char *service, unsigned char ret[CHECK_GRPC_REQUEST_MAX])
{
	const size_t len = strlen(service);
	unsigned char *at = ret + 5;

	if (len) {
		*at++ = 1 << 3 | 2;
		if (len > 127)
			*at++ = (unsigned char)(len & 0x7f) | 0x80;
		*at++ = (unsigned char)(len > 127 ? len >> 7 : len);
		memcpy(at, service, len);
		at += len;
	}
	memset(ret, 0, 5);
	ret[3] = (unsigned char)((size_t)(at - ret - 5) >> 8);
	ret[4] = (unsigned char)(at - ret - 5);
	return (size_t)(at - ret);
}

static int read_varint(const unsigned char **at, const unsigned char *end, uint64_t *ret)
{
	*ret = 0;
	for (unsigned int shift = 0; *at < end && shift < 64; shift += 7) {
		const unsigned char byte = *(*at)++;

		*ret |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return 0;
	}
	return -EINVAL;
}

int check_text_grpc_status(const unsigned char *message, size_t len)
{
	uint64_t key, value, status = 0;

	if (len < 5 || message[0])
		return -EINVAL;
	const size_t size = (size_t)message[1] << 24 | (size_t)message[2] << 16 | (size_t)message[3] << 8 | message[4];
	const unsigned char *at = message + 5, *const end = at + size;

	if (size > len - 5)
		return -EINVAL;
	while (at < end) {
		if (read_varint(&at, end, &key) || read_varint(&at, end, &value))
			return -EINVAL;
		if ((key & 7) == 2) { // a field that we do not know, of this length
			if (value > (uint64_t)(end - at))
				return -EINVAL;
			at += value;
		} else if ((key & 7) != 0) {
			return -EINVAL;
		} else if (key >> 3 == 1) {
			status = value;
		}
	}
	return status <= 3 ? (int)status : 0;
}
