/* SPDX-License-Identifier: MIT */
/*
 * net/http1 as tables: a message, its verdict, and a sentence. Each is fed at once, byte by byte, and cut in two at
 * every place, always from memory that ends at an unreadable page, and must come out the same.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/http1.h"

#define HOST "Host: a\r\n"
#define GET "GET / HTTP/1.1\r\n" HOST
#define POST "POST /x HTTP/1.1\r\n" HOST
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define OK200 "HTTP/1.1 200 OK\r\n"

struct row {
	const char *sentence;
	const char *bytes;
	int error;	  /* of http1_feed; 0: taken */
	int status;	  /* http1_error_status() of a failure */
	const char *seen; /* what the callbacks saw: "METHOD target|STATUS [body]." for each message; NULL: not compared */
	int eof;	  /* of http1_eof behind it, when taken */
	bool no_body;	  /* answers a HEAD */
};

struct witness {
	struct buf seen;
	unsigned pause; /* number of messages to pause behind */
};

static int on_head(void *arg, const struct http1_head *head)
{
	struct witness *witness = arg;

	if (head->status)
		buf_printf(&witness->seen, "%d [", head->status);
	else
		buf_printf(&witness->seen, "%s %s [", head->method, head->target);
	return 0;
}

static int on_body(void *arg, const char *data, size_t len)
{
	buf_add(&((struct witness *)arg)->seen, data, len);
	return 0;
}

static int on_complete(void *arg)
{
	struct witness *witness = arg;

	buf_puts(&witness->seen, "].");
	if (!witness->pause)
		return 0;
	witness->pause--;
	return HTTP1_PAUSE;
}

static const struct http1_events events = {.on_head = on_head, .on_body = on_body, .on_complete = on_complete};

static const struct row requests[] = {
	{"the least there is", GET "\r\n", 0, 0, "GET / [].", 0, false},
	{"HTTP/1.0 needs no Host", "GET /a?b=c HTTP/1.0\r\n\r\n", 0, 0, "GET /a?b=c [].", 0, false},
	{"a body of a known length", POST "Content-Length: 5\r\n\r\nhello", 0, 0, "POST /x [hello].", 0, false},
	{"a length of zero", POST "Content-Length: 0\r\n\r\n", 0, 0, "POST /x [].", 0, false},
	{"space around a value does not count", POST "Content-Length: \t 2 \t \r\n\r\nhi", 0, 0, "POST /x [hi].", 0, false},
	{"two in a row", GET "\r\n" POST "Content-Length: 1\r\n\r\nx", 0, 0, "GET / [].POST /x [x].", 0, false},
	{"a GET may have a body", GET "Content-Length: 2\r\n\r\nab", 0, 0, "GET / [ab].", 0, false},
	{"one blank line before a request is let through", "\r\n" GET "\r\n", 0, 0, "GET / [].", 0, false},
	{"two blank lines are not", "\r\n\r\n" GET "\r\n", -EBADMSG, 400, "", 0, false},
	{"half a head", "GET / HTT", 0, 0, "", -EPIPE, false},
	{"half a body", POST "Content-Length: 5\r\n\r\nhel", 0, 0, "POST /x [hel", -EPIPE, false},
	{"nothing", "", 0, 0, "", 0, false},
	{"a target that is a URI is taken apart", "GET http://b:80/c?d HTTP/1.1\r\n" HOST "\r\n", 0, 0, "GET /c?d [].", 0, false},
	{"a URI without a path", "GET http://b HTTP/1.1\r\n" HOST "\r\n", 0, 0, "GET / [].", 0, false},
	{"a URI with a query only", "GET HTTP://b?q HTTP/1.1\r\n" HOST "\r\n", 0, 0, "GET /?q [].", 0, false},
	{"a URI of https", "GET https://bb/ HTTP/1.1\r\n" HOST "\r\n", 0, 0, "GET / [].", 0, false},
	{"a URI without a host", "GET http:/// HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a URI with a user", "GET http://u@b/ HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"another scheme", "GET ftp://b/ HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", 0, 0, "OPTIONS * [].", 0, false},
	{"GET *", "GET * HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a fragment in the target", "GET /#x HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a target of high bytes", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a tab in the request line", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"two spaces", "GET  / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a space at the end", "GET / HTTP/1.1 \r\n" HOST "\r\n", -EBADMSG, 505, "", 0, false},
	{"no version (HTTP/0.9)", "GET /\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"HTTP/2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", -EBADMSG, 505, "", 0, false},
	{"HTTP/1.10", "GET / HTTP/1.10\r\n" HOST "\r\n", -EBADMSG, 505, "", 0, false},
	{"HTTP/1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", -EBADMSG, 505, "", 0, false},
	{"http/1.1", "GET / http/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -EBADMSG, 505, "", 0, false},
	{"a method nobody knows", "BREW / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 501, "", 0, false},
	{"CONNECT", "CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 501, "", 0, false},
	{"TRACE", "TRACE / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 501, "", 0, false},
	{"a method in lower case", "get / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 501, "", 0, false},
	{"a method that is no token", "G(T / HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"TLS", "\x16\x03\x01\x02", -EBADMSG, 400, "", 0, false},
	{"a line that is no request", "hello\r\n", -EBADMSG, 400, "", 0, false},

	{"no Host", "GET / HTTP/1.1\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"two Hosts", GET HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a Host with a path", "GET / HTTP/1.1\r\nHost: a:4000/#@x\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a list of Hosts with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a Host of IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", 0, 0, "GET / [].", 0, false},
	{"an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", 0, 0, "GET / [].", 0, false},

	{"a bare LF behind the request line", "GET / HTTP/1.1\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a bare LF at the end of the head", GET "\n", -EBADMSG, 400, "", 0, false},
	{"a bare CR in a value", GET "A: b\rc\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a bare CR before a field", GET "\rA: b\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"CR CR LF", GET "A: b\r\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a bare CR in the target", "GET /\r HTTP/1.1\r\n" HOST "\r\n", -EBADMSG, 400, "", 0, false},
	{"a control character in a value", GET "A: b\x01\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"DEL in a value", GET "A: b\x7f\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"high bytes in a value", GET "A: \xc3\xa4\xff\r\n\r\n", 0, 0, "GET / [].", 0, false},
	{"a folded line", GET "A: b\r\n c\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a folded line by tab", GET "A: b\r\n\tc\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a space before the colon", GET "A : b\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"no colon", GET "Ab\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"an empty name", GET ": b\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"an empty value", GET "A:\r\n\r\n", 0, 0, "GET / [].", 0, false},
	{"an empty line of spaces", GET "  \r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a name that is no token", GET "A(b): c\r\n\r\n", -EBADMSG, 400, "", 0, false},

	{"both TE and CL", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"both CL and TE", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"TE in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a coding other than chunked", POST "Transfer-Encoding: gzip\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"identity", POST "Transfer-Encoding: identity\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"chunked twice in one line", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"chunked in two lines", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"chunked with a parameter", POST "Transfer-Encoding: chunked;a=b\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"quoted chunked", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"a comma before chunked", POST "Transfer-Encoding: ,chunked\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"a vertical tab before chunked", POST "Transfer-Encoding: \x0b" "chunked\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"an empty coding", POST "Transfer-Encoding:\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"chunked in any case, tab before it", POST "Transfer-Encoding:\tCHUNKED\r\n\r\n0\r\n\r\n", 0, 0, "POST /x [].", 0, false},

	{"two lengths that differ", POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"two lengths that agree", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", -EBADMSG, 400, "", 0, false},
	{"a list of lengths", POST "Content-Length: 5, 5\r\n\r\nhello", -EBADMSG, 400, "", 0, false},
	{"an empty length", POST "Content-Length:\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length with a plus", POST "Content-Length: +5\r\n\r\nhello", -EBADMSG, 400, "", 0, false},
	{"a negative length", POST "Content-Length: -1\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length in hex", POST "Content-Length: 0x5\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length with an underscore", POST "Content-Length: 5_0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length with a space inside", POST "Content-Length: 5 5\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length of 2^63", POST "Content-Length: 9223372036854775808\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length of 2^64", POST "Content-Length: 18446744073709551616\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a length of 2^63 - 1", POST "Content-Length: 9223372036854775807\r\n\r\nx", 0, 0, "POST /x [x", -EPIPE, false},
	{"a length of 2^32", POST "Content-Length: 4294967296\r\n\r\nx", 0, 0, "POST /x [x", -EPIPE, false},

	{"chunks", CHUNKED "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", 0, 0, "POST /x [abcd].", 0, false},
	{"a chunk size in hex of both cases", CHUNKED "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n", 0, 0,
	 "POST /x [01234567890123456789a].", 0, false},
	{"leading zeros", CHUNKED "0001\r\na\r\n000\r\n\r\n", 0, 0, "POST /x [a].", 0, false},
	{"chunks, then another request", CHUNKED "1\r\na\r\n0\r\n\r\n" GET "\r\n", 0, 0, "POST /x [a].GET / [].", 0, false},
	{"an extension is dropped", CHUNKED "1;a=b\r\nx\r\n0;c\r\n\r\n", 0, 0, "POST /x [x].", 0, false},
	{"an extension in quotes", CHUNKED "1;a=\"b;c\"\r\nx\r\n0\r\n\r\n", 0, 0, "POST /x [x].", 0, false},
	{"trailers are dropped", CHUNKED "1\r\nx\r\n0\r\nA: b\r\nContent-Length: 9\r\n\r\n" GET "\r\n", 0, 0,
	 "POST /x [x].GET / [].", 0, false},
	{"half a chunk", CHUNKED "5\r\nab", 0, 0, "POST /x [ab", -EPIPE, false},
	{"no last line", CHUNKED "1\r\na\r\n0\r\n", 0, 0, "POST /x [a", -EPIPE, false},
	{"an empty chunk size", CHUNKED "\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a chunk size of 0x1", CHUNKED "0x1\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a chunk size with a plus", CHUNKED "+1\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a negative chunk size", CHUNKED "-1\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a space before a chunk size", CHUNKED " 1\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a space behind a chunk size", CHUNKED "1 \r\na\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"17 digits", CHUNKED "00000000000000001\r\na\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a chunk of 2^64 - 1", CHUNKED "ffffffffffffffff\r\na", 0, 0, "POST /x [a", -EPIPE, false},
	{"a bare LF behind a chunk size", CHUNKED "1\na\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a bare CR behind a chunk size", CHUNKED "1\rXa\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a bare LF behind an extension", CHUNKED "1;a\nx\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a bare CR in an extension", CHUNKED "1;a\rb\r\nx\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a semicolon without extension", CHUNKED "1;\r\nx\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"chunk data longer than its size", CHUNKED "1\r\nab\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"chunk data shorter than its size", CHUNKED "3\r\nab\r\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a bare LF behind chunk data", CHUNKED "1\r\na\n0\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a bare LF behind the last chunk", CHUNKED "0\r\n\n", -EBADMSG, 400, NULL, 0, false},
	{"a folded trailer", CHUNKED "0\r\nA: b\r\n c\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a trailer without colon", CHUNKED "0\r\nA\r\n\r\n", -EBADMSG, 400, NULL, 0, false},
	{"a control character in a trailer", CHUNKED "0\r\nA: \x01\r\n\r\n", -EBADMSG, 400, NULL, 0, false},

	{"bytes behind Connection: close", GET "Connection: close\r\n\r\nGET", -EBADMSG, 400, "GET / [].", 0, false},
	{"a blank line behind Connection: close", GET "Connection: close\r\n\r\n\r\n", 0, 0, "GET / [].", 0, false},
	{"an upgrade, offered", GET "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 0, 0, "GET / [].", 0, false},
	{"an upgrade with a body", POST "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab", 0, 0,
	 "POST /x [ab].", 0, false},
};

static const struct row responses[] = {
	{"an answer of a known length", OK200 "Content-Length: 2\r\n\r\nhi", 0, 0, "200 [hi].", 0, false},
	{"two answers", OK200 "Content-Length: 1\r\n\r\na" OK200 "Content-Length: 1\r\n\r\nb", 0, 0, "200 [a].200 [b].", 0, false},
	{"chunks", OK200 "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n", 0, 0, "200 [hi].", 0, false},
	{"an answer that ends with the connection", OK200 "\r\nhi", 0, 0, "200 [hi].", 0, false},
	{"an HTTP/1.0 answer", "HTTP/1.0 200 OK\r\n\r\nhi", 0, 0, "200 [hi].", 0, false},
	{"no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 0, 0, "200 [].", 0, false},
	{"no reason, no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 0, 0, "200 [].", 0, false},
	{"the answer to a HEAD has no body", OK200 "Content-Length: 5\r\n\r\n", 0, 0, "200 [].", 0, true},
	{"chunked, to a HEAD", OK200 "Transfer-Encoding: chunked\r\n\r\n", 0, 0, "200 [].", 0, true},
	{"100, then the answer to a HEAD", "HTTP/1.1 100 Continue\r\n\r\n" OK200 "Content-Length: 5\r\n\r\n", 0, 0,
	 "100 [].200 [].", 0, true},
	{"the answer behind the one to a HEAD has a body", OK200 "Content-Length: 5\r\n\r\n" OK200 "Content-Length: 1\r\n\r\na", 0,
	 0, "200 [].200 [a].", 0, true},
	{"204 has no body", "HTTP/1.1 204 No Content\r\n\r\n" OK200 "Content-Length: 0\r\n\r\n", 0, 0, "204 [].200 [].", 0, false},
	{"204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n" OK200 "Content-Length: 0\r\n\r\n", 0, 0,
	 "204 [].200 [].", 0, false},
	{"304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n" OK200 "Content-Length: 0\r\n\r\n", 0, 0,
	 "304 [].200 [].", 0, false},
	{"100 and 103, then the answer", "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" OK200 "Content-Length: 1\r\n\r\na",
	 0, 0, "100 [].103 [].200 [a].", 0, false},
	{"101, then bytes of another protocol", "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x",
	 0, 0, "101 [\x81\x01x].", 0, false},
	{"101 without the fields that go with it", "HTTP/1.1 101 Switching\r\n\r\nabc", 0, 0, "101 [abc].", 0, false},
	{"200 with Upgrade only offers it", OK200 "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na", 0, 0,
	 "200 [a].", 0, false},
	{"cut in the body", OK200 "Content-Length: 5\r\n\r\nhi", 0, 0, "200 [hi", -EPIPE, false},
	{"cut in the head", OK200 "Content-Le", 0, 0, "", -EPIPE, false},
	{"cut before the last chunk", OK200 "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", 0, 0, "200 [hi", -EPIPE, false},
	{"nothing", "", 0, 0, "", 0, false},
	{"bytes behind an answer", OK200 "Content-Length: 1\r\n\r\nab\r\n", -EBADMSG, 400, "200 [a].", 0, false},
	{"bytes behind an answer that closes", OK200 "Connection: close\r\nContent-Length: 1\r\n\r\nab", -EBADMSG, 400, "200 [a].", 0,
	 false},
	{"both TE and CL", OK200 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"two lengths", OK200 "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", -EBADMSG, 400, "", 0, false},
	{"chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a coding other than chunked", OK200 "Transfer-Encoding: gzip\r\n\r\n", -EBADMSG, 501, "", 0, false},
	{"a folded line", OK200 "A: b\r\n c\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a space before the colon", OK200 "Content-Length : 1\r\n\r\na", -EBADMSG, 400, "", 0, false},
	{"a bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a bare CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a blank line before the answer", "\r\n" OK200 "Content-Length: 0\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a status of 999", "HTTP/1.1 999 OK\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"a status of 099", "HTTP/1.1 099 OK\r\n\r\n", -EBADMSG, 400, "", 0, false},
	{"another version", "HTTP/1.2 200 OK\r\n\r\n", -EBADMSG, 505, "", 0, false},
	{"no HTTP", "SSH-2.0-OpenSSH\r\n", -EBADMSG, 400, "", 0, false},
	{"a request", GET "\r\n", -EBADMSG, 400, "", 0, false},
};

/* Two pages, the second one unreadable. */
struct cliff {
	char *pages;
	size_t size; /* of the readable part */
};

static struct cliff cliff_new(size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	struct cliff cliff = {.size = (size + page - 1) / page * page};

	cliff.pages = mmap(NULL, cliff.size + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(cliff.pages != MAP_FAILED);
	assert_int_equal(mprotect(cliff.pages + cliff.size, page, PROT_NONE), 0);
	return cliff;
}

static void cliff_free(struct cliff *cliff)
{
	munmap(cliff->pages, cliff->size + (size_t)sysconf(_SC_PAGESIZE));
}

static int feed(struct http1 *parser, struct cliff *cliff, const char *data, size_t len)
{
	char *at = cliff->pages + cliff->size - len;

	memcpy(at, data, len);
	return http1_feed(parser, at, len);
}

/* `first` bytes, then the rest in pieces of `step`. Errors stop. */
static void try_row(const struct row *row, bool is_response, struct cliff *cliff, size_t first, size_t step)
{
	struct witness witness = {0};
	struct http1 *parser = http1_new(is_response, &events, &witness);
	size_t len = strlen(row->bytes), at = 0;
	int error = 0, eof = 0;

	assert_non_null(parser);
	if (row->no_body)
		http1_expect_no_body(parser);
	while (!error && at < len) {
		size_t n = at ? step : first;

		n = n < len - at ? n : len - at;
		error = feed(parser, cliff, row->bytes + at, n);
		at += n;
	}
	if (!error)
		eof = http1_eof(parser);
	if (error != row->error || eof != row->eof ||
	    (row->seen && strcmp(row->seen, witness.seen.data ? witness.seen.data : "") != 0) ||
	    (error && http1_error_status(parser) != row->status) || (error && !*http1_error(parser)))
		fail_msg("%s (first %zu, then %zu): %d %d %d \"%s\" (%s)", row->sentence, first, step, error, eof,
			 http1_error_status(parser), witness.seen.data ? witness.seen.data : "",
			 http1_error(parser));
	http1_free(parser);
	buf_fini(&witness.seen);
}

static void try_table(const struct row *rows, size_t n, bool is_response)
{
	struct cliff cliff = cliff_new(4096);

	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(rows[i].bytes);

		try_row(&rows[i], is_response, &cliff, len, 1);
		try_row(&rows[i], is_response, &cliff, 1, 1);
		for (size_t cut = 1; cut < len; cut++)
			try_row(&rows[i], is_response, &cliff, cut, len);
	}
	cliff_free(&cliff);
}

static void test_http1__requests(void **state)
{
	(void)state;
	try_table(requests, sizeof(requests) / sizeof(requests[0]), false);
}

static void test_http1__responses(void **state)
{
	(void)state;
	try_table(responses, sizeof(responses) / sizeof(responses[0]), true);
}

static int feed_all(struct http1 *parser, const char *text)
{
	return http1_feed(parser, text, strlen(text));
}

static void test_http1__nul_is_refused(void **state)
{
	static const char message[] = GET "A: b\0c\r\n\r\n";
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &events, &witness);

	(void)state;
	assert_int_equal(http1_feed(parser, message, sizeof(message) - 1), -EBADMSG);
	assert_int_equal(feed_all(parser, GET "\r\n"), -EBADMSG); /* of no more use */
	http1_free(parser);
}

static void test_http1__pauses_between_messages(void **state)
{
	static const char text[] = GET "\r\n" POST "Content-Length: 1\r\n\r\nx" CHUNKED "1\r\na\r\n0\r\n\r\n";
	struct witness witness = {.pause = 2};
	struct http1 *parser = http1_new(false, &events, &witness);
	size_t at, len = sizeof(text) - 1;

	(void)state;
	assert_int_equal(http1_feed(parser, text, len), -EAGAIN);
	at = http1_consumed(parser);
	assert_int_equal(at, strlen(GET "\r\n"));
	assert_true(http1_idle(parser));
	assert_int_equal(http1_feed(parser, text + at, len - at), -EAGAIN);
	at += http1_consumed(parser);
	assert_int_equal(http1_feed(parser, text + at, len - at), 0);
	assert_string_equal(witness.seen.data, "GET / [].POST /x [x].POST /x [a].");
	http1_free(parser);
	buf_fini(&witness.seen);
}

static struct http1_head seen_head;
static int keep_head(void *arg, const struct http1_head *head)
{
	(void)arg;
	seen_head = *head;
	return 0;
}

static void test_http1__head_is_taken_apart(void **state)
{
	static const struct http1_events only = {.on_head = keep_head, .on_body = on_body, .on_complete = on_complete};
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &only, &witness);

	(void)state;
	assert_int_equal(feed_all(parser, "POST http://h:1/p HTTP/1.1\r\nHost: other\r\nX-Two:  a b \t\r\n"
					  "Connection: foo, Keep-Alive\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc"),
			 0);
	assert_string_equal(seen_head.method, "POST");
	assert_string_equal(seen_head.target, "/p");
	assert_string_equal(http1_field(&seen_head, "host"), "h:1");
	assert_string_equal(http1_field(&seen_head, "x-two"), "a b");
	assert_null(http1_field(&seen_head, "x-three"));
	assert_true(http1_has_token(&seen_head, "connection", "upgrade"));
	assert_true(http1_has_token(&seen_head, "connection", "foo"));
	assert_false(http1_has_token(&seen_head, "connection", "fo"));
	assert_false(http1_has_token(&seen_head, "connection", "close"));
	assert_true(seen_head.keep_alive);
	assert_int_equal(seen_head.content_length, 3);
	assert_false(seen_head.chunked);
	assert_int_equal(seen_head.n_fields, 5);
	http1_free(parser);
	buf_fini(&witness.seen);
}

static void test_http1__keep_alive(void **state)
{
	static const struct {
		const char *text;
		bool response, keep_alive;
	} rows[] = {
		{GET "\r\n", false, true},
		{GET "Connection: close\r\n\r\n", false, false},
		{GET "Connection: keep-alive, CLOSE\r\n\r\n", false, false},
		{"GET / HTTP/1.0\r\n\r\n", false, false},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false, true},
		{OK200 "Content-Length: 0\r\n\r\n", true, true},
		{OK200 "\r\n", true, false},
		{OK200 "Connection: close\r\nContent-Length: 0\r\n\r\n", true, false},
		{"HTTP/1.1 101 x\r\n\r\n", true, false},
	};
	static const struct http1_events only = {.on_head = keep_head, .on_body = on_body, .on_complete = on_complete};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct witness witness = {0};
		struct http1 *parser = http1_new(rows[i].response, &only, &witness);

		assert_int_equal(feed_all(parser, rows[i].text), 0);
		if (seen_head.keep_alive != rows[i].keep_alive)
			fail_msg("%s", rows[i].text);
		http1_free(parser);
		buf_fini(&witness.seen);
	}
}

/* GET, `fields` fields, one of them `value` bytes long; returns what http1_feed() says, in pieces of 1,000. */
static int feed_large(size_t target, unsigned fields, size_t value, int *status)
{
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &events, &witness);
	struct buf text = {0};
	int error = 0;

	buf_puts(&text, "GET /");
	for (size_t i = 0; i < target; i++)
		buf_puts(&text, "t");
	buf_puts(&text, " HTTP/1.1\r\n" HOST);
	for (unsigned i = 1; i < fields; i++)
		buf_printf(&text, "F%u: v\r\n", i);
	buf_puts(&text, "Long: ");
	for (size_t i = 0; i < value; i++)
		buf_puts(&text, "v");
	buf_puts(&text, "\r\n\r\n");
	for (size_t at = 0; at < text.len && !error; at += 1000)
		error = http1_feed(parser, text.data + at, text.len - at < 1000 ? text.len - at : 1000);
	*status = http1_error_status(parser);
	http1_free(parser);
	buf_fini(&text);
	buf_fini(&witness.seen);
	return error;
}

static void test_http1__limits_of_a_head(void **state)
{
	int status;

	(void)state;
	assert_int_equal(feed_large(8000, 2, 10, &status), 0);
	assert_int_equal(feed_large(1, 2, 60000, &status), 0);
	assert_int_equal(feed_large(1, HTTP1_FIELDS_MAX - 1, 10, &status), 0);
	assert_int_equal(feed_large(1, HTTP1_FIELDS_MAX, 10, &status), -E2BIG);
	assert_int_equal(status, 431);
	assert_int_equal(feed_large(1, 2, HTTP1_HEAD_MAX, &status), -E2BIG);
	assert_int_equal(status, 431);
	assert_int_equal(feed_large(HTTP1_HEAD_MAX, 2, 1, &status), -E2BIG);
	assert_int_equal(status, 414);
}

static int feed_chunked(const char *before, size_t n, char c, const char *after)
{
	struct witness witness = {0};
	struct http1 *parser = http1_new(false, &events, &witness);
	int error = feed_all(parser, CHUNKED);

	if (!error)
		error = feed_all(parser, before);
	for (size_t i = 0; i < n && !error; i++)
		error = http1_feed(parser, &c, 1);
	if (!error)
		error = feed_all(parser, after);
	http1_free(parser);
	buf_fini(&witness.seen);
	return error;
}

static void test_http1__extensions_and_trailers_are_bounded(void **state)
{
	(void)state;
	assert_int_equal(feed_chunked("1;", 1000, 'a', "\r\nx\r\n0\r\n\r\n"), 0);
	assert_int_equal(feed_chunked("1;", 2000, 'a', "\r\nx\r\n0\r\n\r\n"), -EBADMSG);
	assert_int_equal(feed_chunked("0\r\nA: ", 8000, 'a', "\r\n\r\n"), 0);
	assert_int_equal(feed_chunked("0\r\nA: ", 9000, 'a', "\r\n\r\n"), -EBADMSG);
}

struct stopper {
	struct http1 *parser;
	char at; /* the callback that stops: h, b or c */
	bool frees;
	unsigned calls;
};

static int stop(struct stopper *stopper, char where)
{
	stopper->calls++;
	if (stopper->at != where)
		return 0;
	if (stopper->frees)
		http1_free(stopper->parser);
	return 1;
}

static int stop_head(void *arg, const struct http1_head *head)
{
	(void)head;
	return stop(arg, 'h');
}

static int stop_body(void *arg, const char *data, size_t len)
{
	(void)data;
	(void)len;
	return stop(arg, 'b');
}

static int stop_complete(void *arg)
{
	return stop(arg, 'c');
}

static void test_http1__callbacks_may_stop_and_free(void **state)
{
	static const struct http1_events stops = {.on_head = stop_head, .on_body = stop_body, .on_complete = stop_complete};
	static const char where[] = "hbc";

	(void)state;
	for (unsigned i = 0; i < 6; i++) {
		struct stopper stopper = {.at = where[i % 3], .frees = i >= 3};

		stopper.parser = http1_new(false, &stops, &stopper);
		assert_int_equal(feed_all(stopper.parser, CHUNKED "1\r\na\r\n0\r\n\r\n" GET "\r\n"), -ECANCELED);
		assert_int_equal(stopper.calls, 1 + i % 3);
		if (!stopper.frees)
			http1_free(stopper.parser);
	}
}

static void test_http1__reasons(void **state)
{
	(void)state;
	assert_string_equal(http1_reason(404), "Not Found");
	assert_string_equal(http1_reason(299), "Unknown");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_http1__requests),
		cmocka_unit_test(test_http1__responses),
		cmocka_unit_test(test_http1__nul_is_refused),
		cmocka_unit_test(test_http1__pauses_between_messages),
		cmocka_unit_test(test_http1__head_is_taken_apart),
		cmocka_unit_test(test_http1__keep_alive),
		cmocka_unit_test(test_http1__limits_of_a_head),
		cmocka_unit_test(test_http1__extensions_and_trailers_are_bounded),
		cmocka_unit_test(test_http1__callbacks_may_stop_and_free),
		cmocka_unit_test(test_http1__reasons),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
