/* SPDX-License-Identifier: MIT */
/* Messages for test_http1.c, each with its verdict and a sentence. */
#ifndef TESTS_HTTP1_ROWS_H
#define TESTS_HTTP1_ROWS_H

#include <errno.h>
#include <stdbool.h>

#define HOST	"Host: a\r\n"
#define GET	"GET / HTTP/1.1\r\n" HOST
#define POST	"POST /x HTTP/1.1\r\n" HOST
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define OK200	"HTTP/1.1 200 OK\r\n"

struct row {
	const char *sentence;
	const char *bytes;
	int error;	  /* of http1_feed; 0: taken */
	int status;	  /* http1_error_status() of a failure */
	const char *seen; /* what the callbacks saw: "METHOD target|STATUS [body]." for each
			     message; NULL: not compared */
	int eof;	  /* of http1_eof behind it, when taken */
	bool no_body;	  /* answers a HEAD */
};

/* What most rows say. */
#define TAKEN(sentence, bytes, seen) \
	{ \
		sentence, bytes, 0, 0, seen, 0, false \
	}
#define CUT(sentence, bytes, seen) \
	{ \
		sentence, bytes, 0, 0, seen, -EPIPE, false \
	}
#define TO_HEAD(sentence, bytes, seen) \
	{ \
		sentence, bytes, 0, 0, seen, 0, true \
	}
#define BAD(sentence, bytes, status) \
	{ \
		sentence, bytes, -EBADMSG, status, "", 0, false \
	}
#define BAD_CHUNKS(sentence, bytes) \
	{ \
		sentence, bytes, -EBADMSG, 400, NULL, 0, false \
	}

static const struct row requests[] = {
	TAKEN("the least there is", GET "\r\n", "GET / []."),
	TAKEN("HTTP/1.0 needs no Host", "GET /a?b=c HTTP/1.0\r\n\r\n", "GET /a?b=c []."),
	TAKEN("a body of a known length", POST "Content-Length: 5\r\n\r\nhello",
	      "POST /x [hello]."),
	TAKEN("a length of zero", POST "Content-Length: 0\r\n\r\n", "POST /x []."),
	TAKEN("space around a value does not count", POST "Content-Length: \t 2 \t \r\n\r\nhi",
	      "POST /x [hi]."),
	TAKEN("two in a row", GET "\r\n" POST "Content-Length: 1\r\n\r\nx",
	      "GET / [].POST /x [x]."),
	TAKEN("a GET may have a body", GET "Content-Length: 2\r\n\r\nab", "GET / [ab]."),
	TAKEN("one blank line before a request is let through", "\r\n" GET "\r\n", "GET / []."),
	BAD("two blank lines are not", "\r\n\r\n" GET "\r\n", 400),
	CUT("half a head", "GET / HTT", ""),
	CUT("half a body", POST "Content-Length: 5\r\n\r\nhel", "POST /x [hel"),
	TAKEN("nothing", "", ""),
	TAKEN("a target that is a URI is taken apart",
	      "GET http://b:80/c?d HTTP/1.1\r\n" HOST "\r\n", "GET /c?d []."),
	TAKEN("a URI without a path", "GET http://b HTTP/1.1\r\n" HOST "\r\n", "GET / []."),
	TAKEN("a URI with a query only", "GET HTTP://b?q HTTP/1.1\r\n" HOST "\r\n", "GET /?q []."),
	TAKEN("a URI of https", "GET https://bb/ HTTP/1.1\r\n" HOST "\r\n", "GET / []."),
	BAD("a URI without a host", "GET http:/// HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a URI with a user", "GET http://u@b/ HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("another scheme", "GET ftp://b/ HTTP/1.1\r\n" HOST "\r\n", 400),
	TAKEN("OPTIONS *", "OPTIONS * HTTP/1.1\r\n" HOST "\r\n", "OPTIONS * []."),
	BAD("GET *", "GET * HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a fragment in the target", "GET /#x HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a target of high bytes", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a tab in the request line", "GET\t/ HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("two spaces", "GET  / HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a space at the end", "GET / HTTP/1.1 \r\n" HOST "\r\n", 505),
	BAD("no version (HTTP/0.9)", "GET /\r\n\r\n", 400),
	BAD("HTTP/2.0", "GET / HTTP/2.0\r\n" HOST "\r\n", 505),
	BAD("HTTP/1.10", "GET / HTTP/1.10\r\n" HOST "\r\n", 505),
	BAD("HTTP/1.2", "GET / HTTP/1.2\r\n" HOST "\r\n", 505),
	BAD("http/1.1", "GET / http/1.1\r\n" HOST "\r\n", 400),
	BAD("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
	BAD("a method nobody knows", "BREW / HTTP/1.1\r\n" HOST "\r\n", 501),
	BAD("CONNECT", "CONNECT a:1 HTTP/1.1\r\n" HOST "\r\n", 501),
	BAD("TRACE", "TRACE / HTTP/1.1\r\n" HOST "\r\n", 501),
	BAD("a method in lower case", "get / HTTP/1.1\r\n" HOST "\r\n", 501),
	BAD("a method that is no token", "G(T / HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("TLS", "\x16\x03\x01\x02", 400),
	BAD("a line that is no request", "hello\r\n", 400),

	BAD("no Host", "GET / HTTP/1.1\r\n\r\n", 400),
	BAD("two Hosts", GET HOST "\r\n", 400),
	BAD("two Hosts in HTTP/1.0", "GET / HTTP/1.0\r\n" HOST HOST "\r\n", 400),
	BAD("a Host with a path", "GET / HTTP/1.1\r\nHost: a:4000/#@x\r\n\r\n", 400),
	BAD("a Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
	BAD("a list of Hosts with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
	TAKEN("a Host of IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "GET / []."),
	TAKEN("an empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n", "GET / []."),

	BAD("a bare LF behind the request line", "GET / HTTP/1.1\n" HOST "\r\n", 400),
	BAD("a bare LF behind a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
	BAD("a bare LF at the end of the head", GET "\n", 400),
	BAD("a bare CR in a value", GET "A: b\rc\r\n\r\n", 400),
	BAD("a bare CR before a field", GET "\rA: b\r\n\r\n", 400),
	BAD("CR CR LF", GET "A: b\r\r\n\r\n", 400),
	BAD("a bare CR in the target", "GET /\r HTTP/1.1\r\n" HOST "\r\n", 400),
	BAD("a control character in a value", GET "A: b\x01\r\n\r\n", 400),
	BAD("DEL in a value", GET "A: b\x7f\r\n\r\n", 400),
	TAKEN("high bytes in a value", GET "A: \xc3\xa4\xff\r\n\r\n", "GET / []."),
	BAD("a folded line", GET "A: b\r\n c\r\n\r\n", 400),
	BAD("a folded line by tab", GET "A: b\r\n\tc\r\n\r\n", 400),
	BAD("a space before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
	BAD("a space before the colon", GET "A : b\r\n\r\n", 400),
	BAD("no colon", GET "Ab\r\n\r\n", 400),
	BAD("an empty name", GET ": b\r\n\r\n", 400),
	TAKEN("an empty value", GET "A:\r\n\r\n", "GET / []."),
	BAD("an empty line of spaces", GET "  \r\n\r\n", 400),
	BAD("a name that is no token", GET "A(b): c\r\n\r\n", 400),

	BAD("both TE and CL",
	    POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	BAD("both CL and TE",
	    POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
	BAD("TE in HTTP/1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	    400),
	BAD("a coding other than chunked", POST "Transfer-Encoding: gzip\r\n\r\n", 501),
	BAD("identity", POST "Transfer-Encoding: identity\r\n\r\n", 501),
	BAD("gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
	BAD("chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n\r\n", 400),
	BAD("chunked twice in one line", POST "Transfer-Encoding: chunked, chunked\r\n\r\n", 400),
	BAD("chunked in two lines",
	    POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
	BAD("xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n", 501),
	BAD("chunked with a parameter", POST "Transfer-Encoding: chunked;a=b\r\n\r\n", 400),
	BAD("quoted chunked", POST "Transfer-Encoding: \"chunked\"\r\n\r\n", 501),
	BAD("a comma before chunked", POST "Transfer-Encoding: ,chunked\r\n\r\n", 501),
	BAD("a vertical tab before chunked",
	    POST "Transfer-Encoding: \x0b"
		 "chunked\r\n\r\n",
	    400),
	BAD("an empty coding", POST "Transfer-Encoding:\r\n\r\n", 501),
	TAKEN("chunked in any case, tab before it",
	      POST "Transfer-Encoding:\tCHUNKED\r\n\r\n0\r\n\r\n", "POST /x []."),

	BAD("two lengths that differ", POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
	BAD("two lengths that agree", POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	    400),
	BAD("a list of lengths", POST "Content-Length: 5, 5\r\n\r\nhello", 400),
	BAD("an empty length", POST "Content-Length:\r\n\r\n", 400),
	BAD("a length with a plus", POST "Content-Length: +5\r\n\r\nhello", 400),
	BAD("a negative length", POST "Content-Length: -1\r\n\r\n", 400),
	BAD("a length in hex", POST "Content-Length: 0x5\r\n\r\n", 400),
	BAD("a length with an underscore", POST "Content-Length: 5_0\r\n\r\n", 400),
	BAD("a length with a space inside", POST "Content-Length: 5 5\r\n\r\n", 400),
	BAD("a length of 2^63", POST "Content-Length: 9223372036854775808\r\n\r\n", 400),
	BAD("a length of 2^64", POST "Content-Length: 18446744073709551616\r\n\r\n", 400),
	CUT("a length of 2^63 - 1", POST "Content-Length: 9223372036854775807\r\n\r\nx",
	    "POST /x [x"),
	CUT("a length of 2^32", POST "Content-Length: 4294967296\r\n\r\nx", "POST /x [x"),

	TAKEN("chunks", CHUNKED "3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n", "POST /x [abcd]."),
	TAKEN("a chunk size in hex of both cases",
	      CHUNKED "a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
	      "POST /x [01234567890123456789a]."),
	TAKEN("leading zeros", CHUNKED "0001\r\na\r\n000\r\n\r\n", "POST /x [a]."),
	TAKEN("chunks, then another request", CHUNKED "1\r\na\r\n0\r\n\r\n" GET "\r\n",
	      "POST /x [a].GET / []."),
	TAKEN("an extension is dropped", CHUNKED "1;a=b\r\nx\r\n0;c\r\n\r\n", "POST /x [x]."),
	TAKEN("an extension in quotes", CHUNKED "1;a=\"b;c\"\r\nx\r\n0\r\n\r\n", "POST /x [x]."),
	TAKEN("trailers are dropped",
	      CHUNKED "1\r\nx\r\n0\r\nA: b\r\nContent-Length: 9\r\n\r\n" GET "\r\n",
	      "POST /x [x].GET / []."),
	CUT("half a chunk", CHUNKED "5\r\nab", "POST /x [ab"),
	CUT("no last line", CHUNKED "1\r\na\r\n0\r\n", "POST /x [a"),
	BAD_CHUNKS("an empty chunk size", CHUNKED "\r\n"),
	BAD_CHUNKS("a chunk size of 0x1", CHUNKED "0x1\r\n"),
	BAD_CHUNKS("a chunk size with a plus", CHUNKED "+1\r\n"),
	BAD_CHUNKS("a negative chunk size", CHUNKED "-1\r\n"),
	BAD_CHUNKS("a space before a chunk size", CHUNKED " 1\r\n"),
	BAD_CHUNKS("a space behind a chunk size", CHUNKED "1 \r\na\r\n0\r\n\r\n"),
	BAD_CHUNKS("17 digits", CHUNKED "00000000000000001\r\na\r\n"),
	CUT("a chunk of 2^64 - 1", CHUNKED "ffffffffffffffff\r\na", "POST /x [a"),
	BAD_CHUNKS("a bare LF behind a chunk size", CHUNKED "1\na\r\n0\r\n\r\n"),
	BAD_CHUNKS("a bare CR behind a chunk size", CHUNKED "1\rXa\r\n0\r\n\r\n"),
	BAD_CHUNKS("a bare LF behind an extension", CHUNKED "1;a\nx\r\n0\r\n\r\n"),
	BAD_CHUNKS("a bare CR in an extension", CHUNKED "1;a\rb\r\nx\r\n0\r\n\r\n"),
	BAD_CHUNKS("a semicolon without extension", CHUNKED "1;\r\nx\r\n0\r\n\r\n"),
	BAD_CHUNKS("chunk data longer than its size", CHUNKED "1\r\nab\r\n0\r\n\r\n"),
	BAD_CHUNKS("chunk data shorter than its size", CHUNKED "3\r\nab\r\n0\r\n\r\n"),
	BAD_CHUNKS("another byte for the CR behind chunk data", CHUNKED "1\r\naX\n0\r\n\r\n"),
	BAD_CHUNKS("a bare LF behind chunk data", CHUNKED "1\r\na\n0\r\n\r\n"),
	BAD_CHUNKS("a bare LF behind the last chunk", CHUNKED "0\r\n\n"),
	BAD_CHUNKS("a folded trailer", CHUNKED "0\r\nA: b\r\n c\r\n\r\n"),
	BAD_CHUNKS("a trailer without colon", CHUNKED "0\r\nA\r\n\r\n"),
	BAD_CHUNKS("a control character in a trailer", CHUNKED "0\r\nA: \x01\r\n\r\n"),

	{"bytes behind Connection: close", GET "Connection: close\r\n\r\nGET", -EBADMSG, 400,
	 "GET / [].", 0, false},
	TAKEN("a blank line behind Connection: close", GET "Connection: close\r\n\r\n\r\n",
	      "GET / []."),
	TAKEN("an upgrade, offered", GET "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
	      "GET / []."),
	TAKEN("an upgrade with a body",
	      POST "Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nab",
	      "POST /x [ab]."),
};

static const struct row responses[] = {
	TAKEN("an answer of a known length", OK200 "Content-Length: 2\r\n\r\nhi", "200 [hi]."),
	TAKEN("two answers", OK200 "Content-Length: 1\r\n\r\na" OK200 "Content-Length: 1\r\n\r\nb",
	      "200 [a].200 [b]."),
	TAKEN("chunks", OK200 "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
	      "200 [hi]."),
	TAKEN("an answer that ends with the connection", OK200 "\r\nhi", "200 [hi]."),
	TAKEN("an HTTP/1.0 answer", "HTTP/1.0 200 OK\r\n\r\nhi", "200 [hi]."),
	TAKEN("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "200 []."),
	TAKEN("no reason, no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "200 []."),
	TO_HEAD("the answer to a HEAD has no body", OK200 "Content-Length: 5\r\n\r\n", "200 []."),
	TO_HEAD("chunked, to a HEAD", OK200 "Transfer-Encoding: chunked\r\n\r\n", "200 []."),
	TO_HEAD("100, then the answer to a HEAD",
		"HTTP/1.1 100 Continue\r\n\r\n" OK200 "Content-Length: 5\r\n\r\n",
		"100 [].200 []."),
	TO_HEAD("the answer behind the one to a HEAD has a body",
		OK200 "Content-Length: 5\r\n\r\n" OK200 "Content-Length: 1\r\n\r\na",
		"200 [].200 [a]."),
	TAKEN("204 has no body",
	      "HTTP/1.1 204 No Content\r\n\r\n" OK200 "Content-Length: 0\r\n\r\n",
	      "204 [].200 []."),
	TAKEN("204 with a length",
	      "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n" OK200
	      "Content-Length: 0\r\n\r\n",
	      "204 [].200 []."),
	TAKEN("304 with a length",
	      "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n" OK200
	      "Content-Length: 0\r\n\r\n",
	      "304 [].200 []."),
	TAKEN("100 and 103, then the answer",
	      "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" OK200
	      "Content-Length: 1\r\n\r\na",
	      "100 [].103 [].200 [a]."),
	TAKEN("101, then bytes of another protocol",
	      "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: "
	      "websocket\r\n\r\n\x81\x01x",
	      "101 [\x81\x01x]."),
	TAKEN("101 without the fields that go with it", "HTTP/1.1 101 Switching\r\n\r\nabc",
	      "101 [abc]."),
	TAKEN("200 with Upgrade only offers it",
	      OK200 "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n\r\na",
	      "200 [a]."),
	CUT("cut in the body", OK200 "Content-Length: 5\r\n\r\nhi", "200 [hi"),
	CUT("cut in the head", OK200 "Content-Le", ""),
	CUT("cut before the last chunk", OK200 "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n",
	    "200 [hi"),
	TAKEN("nothing", "", ""),
	{"bytes behind an answer", OK200 "Content-Length: 1\r\n\r\nab\r\n", -EBADMSG, 400,
	 "200 [a].", 0, false},
	{"bytes behind an answer that closes",
	 OK200 "Connection: close\r\nContent-Length: 1\r\n\r\nab", -EBADMSG, 400, "200 [a].", 0,
	 false},
	BAD("both TE and CL", OK200 "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
	BAD("two lengths", OK200 "Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
	BAD("chunked in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
	BAD("a coding other than chunked", OK200 "Transfer-Encoding: gzip\r\n\r\n", 501),
	BAD("a folded line", OK200 "A: b\r\n c\r\n\r\n", 400),
	BAD("a space before the colon", OK200 "Content-Length : 1\r\n\r\na", 400),
	BAD("a bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", 400),
	BAD("a bare CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n", 400),
	BAD("a blank line before the answer", "\r\n" OK200 "Content-Length: 0\r\n\r\n", 400),
	BAD("a status of two digits", "HTTP/1.1 20 OK\r\n\r\n", 400),
	BAD("a status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", 400),
	BAD("a status of 999", "HTTP/1.1 999 OK\r\n\r\n", 400),
	BAD("a status of 099", "HTTP/1.1 099 OK\r\n\r\n", 400),
	BAD("another version", "HTTP/1.2 200 OK\r\n\r\n", 505),
	BAD("no HTTP", "SSH-2.0-OpenSSH\r\n", 400),
	BAD("a request", GET "\r\n", 400),
};

#endif
