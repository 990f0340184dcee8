#include "registry/edit.hpp"
#include "registry_keys.hpp"

#include <catch2/catch.hpp>

namespace curvegate::registry {
namespace {

Removal remove_from(const std::string& text, std::string_view name) {
    return remove_name(text, entries_of(text), name);
}

TEST_CASE("an entry is appended on a line of its own", "[registry]") {
    const Entry entry = entries_of("a curve25519 " + key_text(1) + " c").front();
    const std::string line = format(entry) + "\n";
    CHECK(append_entry("", entry) == line);
    CHECK(append_entry("# x\n", entry) == "# x\n" + line);
    CHECK(append_entry("# x", entry) == "# x\n" + line);
}

TEST_CASE("a key is revoked once, under all its names, at the end of the file", "[registry]") {
    using namespace std::chrono;
    const WallTime now = sys_days(2026y / 3 / 4) + 13h;
    const auto key = [](Byte number) { return *crypto::PublicKey::from_text(key_text(number)); };
    const std::string text = "a curve25519 " + key_text(1) + "\nb,a curve25519 " + key_text(1) +
                             "\n@revoked c curve25519 " + key_text(2) + "\n# the end";
    const auto revoked = append_revoked(text, entries_of(text), {key(1), key(2), key(3), key(1)}, now);
    CHECK(revoked == text + "\n@revoked a,b curve25519 " + key_text(1) + " revoked 2026-03-04\n" +
                         "@revoked revoked curve25519 " + key_text(3) + " revoked 2026-03-04\n");
    CHECK(append_revoked(revoked, entries_of(revoked), {key(1), key(3)}, now) == revoked);
}

TEST_CASE("a name goes from its lines and everything else stays as it was", "[registry]") {
    const std::string key = key_text(1);
    const std::string before = "# keep a\r\n\n  a curve25519 " + key +
                               "\n\tfrom=10.0.0.0/8  b,a,c\tcurve25519  " + key +
                               "  a comment about a\r\nab curve25519 " + key;
    const std::string after = "# keep a\r\n\n\tfrom=10.0.0.0/8  b,c\tcurve25519  " + key +
                              "  a comment about a\r\nab curve25519 " + key;
    const auto removal = remove_from(before, "a");
    CHECK(removal.text == after);
    CHECK(removal.lines == 2);
    CHECK(removal.revoked_lines == 0);
}

TEST_CASE("a line whose only name is repeated goes whole", "[registry]") {
    CHECK(remove_from("a,a curve25519 " + key_text(1), "a").text.empty());
}

TEST_CASE("a revoked line stays, or the key would be trusted again", "[registry]") {
    const std::string text = "@revoked a curve25519 " + key_text(1) + "\na curve25519 " + key_text(2) + "\n";
    const auto removal = remove_from(text, "a");
    CHECK(removal.text == "@revoked a curve25519 " + key_text(1) + "\n");
    CHECK(removal.lines == 1);
    CHECK(removal.revoked_lines == 1);
}

TEST_CASE("a name that is not there changes nothing", "[registry]") {
    const std::string text = "ab,b curve25519 " + key_text(1) + " a\n";
    const auto removal = remove_from(text, "a");
    CHECK(removal.text == text);
    CHECK(removal.lines == 0);
}

TEST_CASE("a byte order mark hides no name", "[registry]") {
    const auto removal = remove_from(
        "\xef\xbb\xbf"
        "a,b curve25519 " +
            key_text(1),
        "a");
    CHECK(removal.text == "b curve25519 " + key_text(1));
}

}  // namespace
}  // namespace curvegate::registry
