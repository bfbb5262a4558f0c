/* SPDX-License-Identifier: MIT */
/* Requests of clients, as net/http1 reads them. Seeds: tests/http/requests.cases. */
#include "fuzz_http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	bool small = fuzz_seed(data, len) & 0x100; /* so that short inputs meet limits */
	struct fuzz_http1 run = {.head_max = small ? 150 : HTTP1_HEAD_MAX,
				 .fields_max = small ? 4 : HTTP1_FIELDS_MAX,
				 .also = fuzz_http1_again};

	fuzz_http1_both(&run, NULL, 0, data, len);
	fuzz_http1_done(&run);
	return 0;
}
