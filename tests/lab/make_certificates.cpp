#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

#include "tests/l7/tls/certificates.h"

/// Writes 0.pem, 1.pem, …: certificates for c0.example, c1.example, …, each with its key and behind
/// it the authority's, every other one with an EC key of its own and the rest with RSA keys, and
/// root.crt. For a lab that wants thousands.
int main(int argc, char **argv)
{
	using namespace weir::tls::testing;
	unsigned count = 0;
	long serial = 0;
	const auto read = [](std::string_view text, auto &into) {
		const auto [end, error] =
			std::from_chars(text.data(), text.data() + text.size(), into);
		return error == std::errc{} && end == text.data() + text.size();
	};
	if (argc != 4 || !read(argv[2], count) || !read(argv[3], serial)) {
		fmt::print(stderr, "usage: weir_make_certificates DIRECTORY COUNT SERIAL\n");
		return 2;
	}
	const std::string directory = argv[1];
	const auto write = [&](const std::string &name, const std::string &text) {
		std::ofstream{directory + "/" + name, std::ios::binary} << text;
	};
	constexpr int kAuthorityKey = 0;
	const Authority authority = make_authority("Weir test root", kAuthorityKey);
	const std::string root = pem_of(authority.certificate.get());
	write("root.crt", root);
	for (unsigned i = 0; i < count; ++i) {
		const std::string name = fmt::format("c{}.example", i);
		const KeyKind kind = i % 2 == 0 ? KeyKind::kEc : KeyKind::kRsa;
		const int key =
			kind == KeyKind::kEc ? 1 + static_cast<int>(i) : static_cast<int>(i % 4);
		const auto leaf = make_certificate({.common_name = name,
						    .names = {name, "*." + name},
						    .kind = kind,
						    .key_index = key,
						    .valid_to_s = 86'400,
						    .serial = serial + static_cast<long>(i),
						    .issuer = &authority});
		write(fmt::format("{}.pem", i),
		      pem_of(leaf.get()) + root + pem_of(test_key(kind, key)));
	}
	return 0;
}
