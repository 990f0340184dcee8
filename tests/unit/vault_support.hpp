#pragma once

#include "base/bytes.hpp"
#include "base/random.hpp"
#include "crypto/keys.hpp"
#include "crypto/secret.hpp"
#include "crypto/secret_bytes.hpp"
#include "os/secret_pages.hpp"
#include "vault/key_file.hpp"
#include "vault/protocol/protocol.hpp"

#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

/// Helpers for the vault's tests.
namespace curvegate::vault::test {

/// Counts up: different bytes each time, the same in each run.
class CountingRandom final : public RandomSource {
  public:
    explicit CountingRandom(Byte first = 1) noexcept : next_(first) {}
    void fill(MutableBytes out) override {
        for (Byte& byte : out) byte = next_++;
    }

  private:
    Byte next_;
};

inline crypto::SecretPool& pool() {
    static const auto shared = [] {
        REQUIRE(crypto::initialise());
        return crypto::SecretPool::create(os::secret_pages(), crypto::Locking::attempt, 4096).value();
    }();
    return *shared;
}

template <std::size_t N>
ByteArray<N> hex(std::string_view text) {
    REQUIRE(text.size() == 2 * N);
    ByteArray<N> out{};
    for (std::size_t i = 0; i < N; ++i) {
        out[i] = static_cast<Byte>(std::stoul(std::string(text.substr(2 * i, 2)), nullptr, 16));
    }
    return out;
}

inline LongTermKey key_from(KeyRole role, ByteArray<32> secret_bytes) {
    auto secret = crypto::LongTermSecret::adopt(pool(), secret_bytes).value();
    const auto public_key = crypto::public_key_of(secret).value();
    return {role, public_key, std::move(secret)};
}

/// A key made of one repeated byte.
inline LongTermKey key_of(KeyRole role, Byte fill) {
    ByteArray<32> bytes{};
    bytes.fill(fill);
    return key_from(role, bytes);
}

inline crypto::EphemeralKeyPair short_keys(Byte first) {
    CountingRandom random(first);
    return crypto::EphemeralKeyPair::generate(pool(), random).value();
}

/// A folder that is removed with all in it.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string name = (std::filesystem::temp_directory_path() / "curvegate-test-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        path_ = name;
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    [[nodiscard]] std::string file(std::string_view name) const { return (path_ / name).string(); }
    [[nodiscard]] std::string path() const { return path_.string(); }

  private:
    std::filesystem::path path_;
};

inline std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::string& path, std::string_view content) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
    std::filesystem::permissions(path,
                                 std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
}

}  // namespace curvegate::vault::test
