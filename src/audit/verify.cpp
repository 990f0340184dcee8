#include "audit/verify.hpp"

namespace curvegate::audit {

std::optional<Verifier::Fault> Verifier::take(std::string_view bytes) {
    while (!bytes.empty()) {
        const auto end = bytes.find('\n');
        begun_ += bytes.substr(0, end);
        if (begun_.size() >= kLongestLine) return Fault{number_ + 1, Errc::bad_form};
        if (end == std::string_view::npos) return std::nullopt;
        bytes.remove_prefix(end + 1);
        ++number_;
        if (auto checked = check(begun_); !checked) return Fault{number_, std::move(checked.error())};
        begun_.clear();
    }
    return std::nullopt;
}

std::optional<Verifier::Fault> Verifier::end_file() {
    if (!begun_.empty()) return Fault{number_ + 1, Errc::incomplete};
    number_ = 0;
    return std::nullopt;
}

Result<> Verifier::check(std::string_view line) {
    auto parsed = parse_line(line);
    if (!parsed) return fail(std::move(parsed));
    const bool is_first = summary_.lines == 0;
    const Link& last = summary_.last;
    if (!is_first && parsed->link.sequence != last.sequence + 1) {
        return fail(Errc::sequence_jumps, "number " + std::to_string(parsed->link.sequence) + " after " +
                                              std::to_string(last.sequence));
    }
    // What stood before the first line is elsewhere, unless it is the first of all.
    if ((!is_first || parsed->link.sequence == 1) && parsed->previous != last.hash)
        return fail(Errc::previous_differs);
    if (is_first) {
        summary_.first = parsed->link;
        summary_.first_time = parsed->time;
    }
    ++summary_.lines;
    summary_.last = std::move(parsed->link);
    summary_.last_time = std::move(parsed->time);
    return {};
}

}  // namespace curvegate::audit
