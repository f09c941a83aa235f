// SPDX-License-Identifier: Apache-2.0
#include "shared/utf8.h"

size_t utf8_next(const char *text, size_t len, uint32_t *ret)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)text;
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
	uint32_t c;

	*ret = UTF8_INVALID;
	if (n == 0 || n > len)
		return 1;
	c = n == 1 ? p[0] : p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 1;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
		return 1;
	*ret = c;
	return n;
}

void utf8_mend(char *text)
{
	uint32_t c;

	for (; *text; text += utf8_next(text, 4, &c))
		if (utf8_next(text, 4, &c) == 1 && c == UTF8_INVALID)
			*text = '?';
}
