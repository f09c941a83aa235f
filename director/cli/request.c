// SPDX-License-Identifier: Apache-2.0
#include "director/cli/request.h"

#include <curl/curl.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>

struct transfer {
	struct answer *answer;
	size_t room;
	bool too_large;
};

DEFINE_CLEANUP(CURL *, curl_easy_cleanup)

static size_t on_body(char *data, size_t size, size_t count, void *ctx)
{
	struct transfer *transfer = ctx;
	struct answer *answer = transfer->answer;
	size_t n = size * count;

	if (n > REQUEST_ANSWER_MAX - answer->len) {
		transfer->too_large = true;
		return 0;
	}
	if (answer->len + n >= transfer->room) {
		size_t room = 2 * (answer->len + n) + 1;
		char *body = realloc(answer->body, room);

		if (!body)
			return 0;
		answer->body = body;
		transfer->room = room;
	}
	memcpy(answer->body + answer->len, data, n);
	answer->len += n;
	answer->body[answer->len] = '\0';
	return n;
}

static char *make_url(CURL *easy, const char *director, const char *resource, const char *name, const char *query)
{
	size_t base = strlen(director);
	char *encoded = NULL, *url = NULL;

	while (base > 0 && director[base - 1] == '/')
		base--;
	if (name && !(encoded = curl_easy_escape(easy, name, 0)))
		return NULL;
	if (asprintf(&url, "%.*s/%s%s%s%s%s", (int)base, director, resource, encoded ? "/" : "", encoded ? encoded : "",
		    query ? "?" : "", query ? query : "") < 0)
		url = NULL;
	curl_free(encoded);
	return url;
}

// The director's own words for a refusal, or the status alone.
static int refusal(const char *director, long status, const json_t *json, struct err *err)
{
	const char *text = json_string_value(json_object_get(json, "error"));
	const char *field = json_string_value(json_object_get(json, "field"));
	int code = status == 404 ? -ENOENT : -EREMOTEIO;

	if (text && *text)
		return err_set(err, code, field, "%s", text);
	return err_set(
		err, code, NULL, "%s answered with HTTP status %ld and no reason; is it a director?", director, status);
}

int request_get(const char *director, const char *resource, const char *name, const char *query, struct answer **ret,
	struct err *err)
{
	_cleanup_(curl_easy_cleanup_cleanup) CURL *easy = curl_easy_init();
	_cleanup_(answer_free_cleanup) struct answer *answer = calloc(1, sizeof(*answer));
	_cleanup_free_ char *url = easy ? make_url(easy, director, resource, name, query) : NULL;
	struct transfer transfer = { .answer = answer };
	char text[CURL_ERROR_SIZE] = "";
	json_error_t where;
	long status = 0;
	CURLcode code;

	if (!easy || !answer || !url)
		return err_set(err, -ENOMEM, NULL, "out of memory");
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L); // a name may be ".."
	curl_easy_setopt(easy, CURLOPT_DEFAULT_PROTOCOL, "http");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"); // the environment's is for the Internet, directors are near
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, REQUEST_TIMEOUT_MS);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "brass/" BRASS_VERSION);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &transfer);
	code = curl_easy_perform(easy);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
	if (transfer.too_large)
		return err_set(
			err, -EMSGSIZE, NULL, "%s: the answer is larger than %lu bytes", director, REQUEST_ANSWER_MAX);
	if (code != CURLE_OK)
		return err_set(err, code == CURLE_OPERATION_TIMEDOUT ? -ETIMEDOUT : -EIO, NULL, "%s: %s", director,
			*text ? text : curl_easy_strerror(code));
	curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
	answer->json = json_loadb(answer->body ? answer->body : "", answer->len, 0, &where);
	if (status != 200)
		return refusal(director, status, answer->json, err);
	if (!json_is_object(answer->json))
		return err_set(err, -EBADMSG, NULL, "%s: the answer is no JSON object%s%s; is it a director?", director,
			answer->json ? "" : ": ", answer->json ? "" : where.text);
	*ret = STEAL(answer);
	return 0;
}

void answer_free(struct answer *answer)
{
	if (!answer)
		return;
	json_decref(answer->json);
	free(answer->body);
	free(answer);
}
