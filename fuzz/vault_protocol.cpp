// The vault's socket, both directions, and the service behind it: what parses is written back as it came,
// every request gets an answer of its own verb, and none holds the secret.
#include "harness.hpp"
#include "support/vault.hpp"

using namespace curvegate;

namespace {

void ask(test::TestVault& vault, vault::KeyRole role, const vault::Request& request) {
    const auto reply = vault.ask(request.body);
    vault::MessageBuffer out;
    const auto bytes = serialise(vault::Reply{request.id, reply}, out);
    fuzz::must(bytes[1] == static_cast<Byte>(vault::verb_of(request.body)));
    const auto secret = test::secret_bytes(role == vault::KeyRole::server ? 1 : 2);
    fuzz::must(std::ranges::search(bytes, secret).empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto input = fuzz::copy_of(data, size);
    test::TestVault server(vault::KeyRole::server, test::secret_bytes(1));
    test::TestVault client(vault::KeyRole::client, test::secret_bytes(2));
    vault::MessageBuffer out;
    if (const auto request = vault::parse_request(input)) {
        fuzz::must(std::ranges::equal(serialise(*request, out), input));
        ask(server, vault::KeyRole::server, *request);
        ask(client, vault::KeyRole::client, *request);
    }
    if (const auto reply = vault::parse_reply(input))
        fuzz::must(std::ranges::equal(serialise(*reply, out), input));
    return 0;
}
