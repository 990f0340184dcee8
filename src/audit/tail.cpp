#include "audit/tail.hpp"

namespace curvegate::audit {
namespace {

constexpr std::string_view kBeginning = R"({"seq":)";

bool may_be_torn(std::string_view bytes) {
    const auto zeros = bytes.find('\0');
    const auto begun = bytes.substr(0, zeros);
    const auto rest = bytes.substr(begun.size());
    const bool is_ours = begun.starts_with(kBeginning) || kBeginning.starts_with(begun);
    return is_ours && rest.find_first_not_of('\0') == std::string_view::npos;
}

}  // namespace

Result<Tail> read_tail(std::string_view bytes, Window window) {
    const auto end = bytes.rfind('\n');
    const auto torn = end == std::string_view::npos ? bytes : bytes.substr(end + 1);
    const bool has_line = end != std::string_view::npos;
    if (!may_be_torn(torn) || (!has_line && window == Window::end_of_it)) return fail(Errc::bad_form);
    if (!has_line) return Tail{std::nullopt, torn.size()};
    const auto lines = bytes.substr(0, end);
    const auto before = lines.rfind('\n');
    if (before == std::string_view::npos && window == Window::end_of_it) return fail(Errc::bad_form);
    auto parsed = parse_line(before == std::string_view::npos ? lines : lines.substr(before + 1));
    if (!parsed) return fail(std::move(parsed));
    return Tail{std::move(parsed->link), torn.size()};
}

}  // namespace curvegate::audit
