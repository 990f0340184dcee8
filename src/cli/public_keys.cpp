#include "cli/exit.hpp"
#include "cli/options.hpp"
#include "cli/secrets.hpp"
#include "cli/verbs.hpp"
#include "config/values.hpp"
#include "crypto/key_shape.hpp"
#include "crypto/keys.hpp"
#include "crypto/secret.hpp"
#include "os/file.hpp"
#include "os/secret_pages.hpp"
#include "vault/key_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>

namespace curvegate::cli {
namespace {

constexpr std::size_t kLongestInput = std::size_t{16} * 1024;
constexpr std::string_view kKeyFileStart = "curvegate-secret-key";
constexpr std::string_view kStandardInput = "standard input";

constexpr std::array<std::pair<std::string_view, crypto::KeyFormat>, 3> kFormats = {
    {{"base64", crypto::KeyFormat::base64},
     {"hex", crypto::KeyFormat::hex},
     {"z85", crypto::KeyFormat::z85}}};

bool is_key_file(std::string_view text) {
    return text.starts_with(kKeyFileStart);
}

/// Reads FILE, or standard input for "" and "-". A key file must look as one (owner, mode); a public key in a
/// file of its own may belong to anybody.
Outcome<> read_input(const std::string& path, WipedBuffer& into) {
    const bool standard = path.empty() || path == "-";
    const os::UniqueFd fd(standard ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!standard && !fd) {
        const auto error = os::fail_errno(path).error();
        return std::unexpected(complain(exit_for_reading(path), error.detail()));
    }
    const auto read = read_secret(standard ? STDIN_FILENO : fd.get(), standard ? kStandardInput : path, into);
    if (!read) return std::unexpected(complain(exit_code::kBadData, read.error().detail()));
    if (standard || !is_key_file(into.text())) return {};
    const auto checked = os::open_checked(path, os::Privacy::secret);
    if (!checked) return std::unexpected(complain(exit_code::kNoPermission, checked.error().detail()));
    return {};
}

/// Of a sealed file what its header says; of a plain one checked against its secret. Wipes the text.
Result<crypto::PublicKey> public_key_in(WipedBuffer& key_file) {
    const auto header = vault::parse_key_header(key_file.text());
    if (!header) return std::unexpected(header.error());
    if (header->sealed) return header->public_key;
    auto pool = crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 1);
    if (!pool) return fail(std::move(pool));
    const auto key = vault::parse_key(key_file.content(), **pool, {});
    if (!key) return std::unexpected(key.error());
    return key->public_key;
}

std::string name_of_input(const std::string& path) {
    return path.empty() || path == "-" ? std::string(kStandardInput) : path;
}

Outcome<crypto::PublicKey> key_from_file(const std::string& path) {
    WipedBuffer input(kLongestInput);
    if (auto read = read_input(path, input); !read) return std::unexpected(read.error());
    // A bare key may be a secret one: to print it again as public would give it away.
    if (crypto::PublicKey::from_text(input.trimmed())) {
        return std::unexpected(
            complain(exit_code::kBadData, name_of_input(path) +
                                              " holds a bare key, not a key file of curvegate keygen "
                                              "or import (import takes a bare secret)"));
    }
    const auto key = public_key_in(input);
    if (!key)
        return std::unexpected(
            complain(exit_code::kBadData, name_of_input(path) + ": " + key.error().text()));
    return *key;
}

/// KEY, or what stands in a file or on standard input: a public key or a key file.
Outcome<crypto::PublicKey> key_from_anything(const std::string& word) {
    const auto given = crypto::PublicKey::from_text(word);
    if (given) return *given;
    // A key that was cut, or a weak one: no file has such a name.
    if (crypto::looks_like_key(word) && ::access(word.c_str(), F_OK) != 0)
        return std::unexpected(complain(exit_code::kBadData, "KEY: " + given.error().text()));
    WipedBuffer input(kLongestInput);
    if (auto read = read_input(word, input); !read) return std::unexpected(read.error());
    const auto key =
        is_key_file(input.text()) ? public_key_in(input) : crypto::PublicKey::from_text(input.trimmed());
    if (!key)
        return std::unexpected(
            complain(exit_code::kBadData, name_of_input(word) + ": " + key.error().text()));
    return *key;
}

std::string operand_of(const Options& options) {
    return options.operands().empty() ? "" : options.operands().front();
}

}  // namespace

int pubkey(const Verb& self, const Arguments& arguments) {
    Options options(self);
    options.value("format", "base64|hex|z85", "how to write the key (default base64)").operands(0, 1);
    if (const auto end = options.parse(arguments)) return *end;
    auto format = crypto::KeyFormat::base64;
    if (options.has("format")) {
        const auto choice = config::parse_choice(options.get("format"), kFormats);
        if (!choice) return options.usage_error("--format: " + choice.error());
        format = *choice;
    }
    const auto key = key_from_file(operand_of(options));
    if (!key) return key.error();
    print(crypto::encode_key(key->bytes(), format));
    return finish_output();
}

int fingerprint(const Verb& self, const Arguments& arguments) {
    Options options(self);
    if (const auto end = options.operands(0, 1).parse(arguments)) return *end;
    const auto key = key_from_anything(operand_of(options));
    if (!key) return key.error();
    print(crypto::fingerprint(*key));
    return finish_output();
}

}  // namespace curvegate::cli
