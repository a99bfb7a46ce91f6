#include "shader_facts.hpp"

#include <algorithm>
#include <unordered_map>

#include "errors.hpp"

namespace tlite {
namespace {

// Numbers from the SPIR-V specification, section 3.
enum Op : uint32_t {
    ExecutionMode = 16,
    Capability = 17,
    TypeBool = 20,
    TypeInt = 21,
    TypeFloat = 22,
    TypeVector = 23,
    TypeMatrix = 24,
    TypeImage = 25,
    TypeSampledImage = 27,
    TypeArray = 28,
    TypeStruct = 30,
    TypePointer = 32,
    ConstantTrue = 41,
    ConstantFalse = 42,
    Constant = 43,
    ConstantComposite = 44,
    SpecConstantTrue = 48,
    SpecConstantFalse = 49,
    SpecConstant = 50,
    SpecConstantComposite = 51,
    SpecConstantOp = 52,
    FunctionEnd = 56,
    Variable = 59,
    Decorate = 71,
    MemberDecorate = 72,
};
enum Decoration : uint32_t {
    SpecId = 1,
    BufferBlock = 3,
    ArrayStride = 6,
    BuiltIn = 11,
    Binding = 33,
    DescriptorSet = 34,
    Offset = 35
};
enum Storage : uint32_t { UniformConstant = 0, Uniform = 2, Workgroup = 4, PushConstant = 9, StorageBuffer = 12 };
constexpr uint32_t kLocalSize = 17, kBuiltInWorkgroupSize = 25, kDimBuffer = 5;
constexpr int kDeepest = 16; // types nested deeper are not GLSL's

constexpr const char* kDamaged = "the SPIR-V module is damaged; build the shaders again";

struct Id {
    uint32_t op = 0;
    std::vector<uint32_t> words; ///< operands after the result id
    std::optional<uint64_t> value;
    std::map<uint32_t, uint32_t> marks;                   ///< decoration -> its literal
    std::unordered_map<uint32_t, uint32_t> member_offset; ///< of a struct
};

/// The integer operations that array lengths and workgroup sizes are made of.
std::optional<uint64_t> calculate(uint32_t op, const std::vector<uint64_t>& v) {
    const auto a = static_cast<uint32_t>(v.empty() ? 0 : v[0]), b = static_cast<uint32_t>(v.size() > 1 ? v[1] : 0);
    const auto sa = static_cast<int32_t>(a), sb = static_cast<int32_t>(b);
    switch (op) {
    case 128: return a + b;
    case 130: return a - b;
    case 132: return a * b;
    case 134:
    case 135: return b ? std::optional<uint64_t>(a / b) : std::nullopt;
    case 137:
    case 138:
    case 139: return b ? std::optional<uint64_t>(a % b) : std::nullopt;
    case 166: return a || b;
    case 167: return a && b;
    case 168: return !a;
    case 169: return v.size() > 2 ? std::optional<uint64_t>(a ? v[1] : v[2]) : std::nullopt;
    case 170: return a == b;
    case 171: return a != b;
    case 172: return a > b;
    case 173: return sa > sb;
    case 174: return a >= b;
    case 175: return sa >= sb;
    case 176: return a < b;
    case 177: return sa < sb;
    case 178: return a <= b;
    case 179: return sa <= sb;
    case 194:
    case 195: return b < 32 ? a >> b : 0;
    case 196: return b < 32 ? a << b : 0;
    case 197: return a | b;
    case 198: return a ^ b;
    case 199: return a & b;
    default: return std::nullopt;
    }
}

/// Operands without which a type says nothing.
size_t least_words(uint32_t op) {
    switch (op) {
    case TypeInt:
    case TypeFloat:
    case TypeSampledImage: return 1;
    case TypeVector:
    case TypeMatrix:
    case TypeArray:
    case TypePointer:
    case TypeImage: return 2;
    default: return 0;
    }
}

class Reader {
  public:
    Reader(const std::vector<uint32_t>& spirv, const std::vector<std::pair<uint32_t, uint32_t>>& specialization)
        : given_(specialization.begin(), specialization.end()) {
        uint32_t op = 0;
        for (size_t at = 5; at < spirv.size();) {
            const uint32_t count = spirv[at] >> 16;
            op = spirv[at] & 0xffff;
            if (count == 0 || count > spirv.size() - at) fail(kDamaged);
            take(op, {spirv.begin() + static_cast<long>(at) + 1, spirv.begin() + static_cast<long>(at) + count});
            at += count;
        }
        if (op != FunctionEnd) fail(kDamaged);
    }

    ShaderFacts facts;

    void finish() {
        for (const auto& [id, kept] : ids_)
            if (const auto mark = kept.marks.find(BuiltIn);
                mark != kept.marks.end() && mark->second == kBuiltInWorkgroupSize)
                set_workgroup(kept.words);
        for (uint32_t variable : variables_) take_variable(ids_[variable]);
    }

  private:
    void take(uint32_t op, const std::vector<uint32_t>& w) {
        switch (op) {
        case ExecutionMode:
            if (w.size() >= 5 && w[1] == kLocalSize) facts.workgroup = {w[2], w[3], w[4]};
            break;
        case Capability:
            if (!w.empty()) facts.capabilities.insert(w[0]);
            break;
        case Decorate:
            if (w.size() >= 2) ids_[w[0]].marks[w[1]] = w.size() > 2 ? w[2] : 1;
            break;
        case MemberDecorate:
            if (w.size() >= 4 && w[2] == Offset) ids_[w[0]].member_offset[w[1]] = w[3];
            break;
        case TypeBool:
        case TypeInt:
        case TypeFloat:
        case TypeVector:
        case TypeMatrix:
        case TypeImage:
        case TypeSampledImage:
        case TypeArray:
        case TypeStruct:
        case TypePointer:
            if (!w.empty()) keep(w[0], op, {w.begin() + 1, w.end()});
            break;
        case ConstantTrue:
        case ConstantFalse:
        case Constant:
        case ConstantComposite:
        case SpecConstantTrue:
        case SpecConstantFalse:
        case SpecConstant:
        case SpecConstantComposite:
        case SpecConstantOp:
        case Variable:
            if (w.size() >= 2) keep(w[1], op, {w.begin() + 2, w.end()}).value = constant(op, w);
            if (w.size() >= 2 && op == Variable) ids_[w[1]].words.push_back(w[0]), variables_.push_back(w[1]);
            break;
        default: break;
        }
    }

    Id& keep(uint32_t id, uint32_t op, std::vector<uint32_t> words) {
        Id& kept = ids_[id];
        kept.op = op;
        kept.words = std::move(words);
        return kept;
    }

    std::optional<uint64_t> constant(uint32_t op, const std::vector<uint32_t>& w) {
        const auto& marks = ids_[w[1]].marks;
        if (const auto spec = marks.find(SpecId); spec != marks.end())
            if (const auto value = given_.find(spec->second); value != given_.end()) return value->second;
        if (op == ConstantTrue || op == SpecConstantTrue) return 1;
        if (op == ConstantFalse || op == SpecConstantFalse) return 0;
        if ((op == Constant || op == SpecConstant) && w.size() >= 3) return w[2];
        if (op != SpecConstantOp || w.size() < 4) return std::nullopt;
        std::vector<uint64_t> values;
        for (size_t i = 3; i < w.size(); ++i) {
            const auto& operand = ids_[w[i]].value;
            if (!operand) return std::nullopt;
            values.push_back(*operand);
        }
        return calculate(w[2], values);
    }

    void set_workgroup(const std::vector<uint32_t>& parts) {
        if (parts.size() != 3) return;
        std::array<uint64_t, 3> size{};
        for (size_t i = 0; i < 3; ++i) {
            const auto& value = ids_[parts[i]].value;
            if (!value) return;
            size[i] = *value;
        }
        facts.workgroup = size;
    }

    void take_variable(const Id& variable) {
        const uint32_t storage = variable.words.front();
        const Id& pointer = ids_[variable.words.back()];
        if (pointer.op != TypePointer || pointer.words.size() < least_words(TypePointer)) return;
        const uint32_t type = pointer.words[1];
        if (storage == Workgroup) facts.shared_bytes += bytes(type);
        if (storage == PushConstant) facts.push_bytes = std::max(facts.push_bytes, bytes(type));
        const auto binding = variable.marks.find(Binding);
        if (binding == variable.marks.end()) return;
        const auto set = variable.marks.find(DescriptorSet);
        if (set != variable.marks.end() && set->second != 0)
            facts.other_sets = true;
        else
            facts.bindings[binding->second] = descriptor(storage, type);
    }

    vk::DescriptorType descriptor(uint32_t storage, uint32_t type) {
        using T = vk::DescriptorType;
        const Id& kept = ids_[type];
        if (storage == StorageBuffer || (storage == Uniform && kept.marks.count(BufferBlock))) return T::eStorageBuffer;
        if (storage == Uniform) return T::eUniformBuffer;
        if (kept.op == TypeSampledImage && !kept.words.empty()) {
            const Id& image = ids_[kept.words[0]];
            return image.words.size() > 1 && image.words[1] == kDimBuffer ? T::eUniformTexelBuffer
                                                                          : T::eCombinedImageSampler;
        }
        return kept.op == TypeImage ? T::eStorageImage : T::eSampler;
    }

    /// The size of a type; 0 where it is not known. An explicit layout (offsets, strides) is followed.
    uint64_t bytes(uint32_t type, int depth = 0) {
        const Id& kept = ids_[type];
        const auto& w = kept.words;
        if (w.size() < least_words(kept.op) || depth > kDeepest) return 0;
        switch (kept.op) {
        case TypeBool: return 4;
        case TypeInt:
        case TypeFloat: return w[0] / 8;
        case TypeVector:
        case TypeMatrix: return w[1] * bytes(w[0], depth + 1);
        case TypeArray: {
            const auto stride = kept.marks.find(ArrayStride);
            return ids_[w[1]].value.value_or(0) *
                   (stride != kept.marks.end() ? stride->second : bytes(w[0], depth + 1));
        }
        case TypeStruct: {
            uint64_t end = 0;
            for (uint32_t i = 0; i < w.size(); ++i) {
                const auto offset = kept.member_offset.find(i);
                end =
                    std::max(end, (offset != kept.member_offset.end() ? offset->second : end) + bytes(w[i], depth + 1));
            }
            return end;
        }
        default: return 0;
        }
    }

    std::unordered_map<uint32_t, uint32_t> given_;
    std::unordered_map<uint32_t, Id> ids_;
    std::vector<uint32_t> variables_;
};

} // namespace

ShaderFacts read_facts(const std::vector<uint32_t>& spirv,
                       const std::vector<std::pair<uint32_t, uint32_t>>& specialization) {
    if (spirv.size() < 5 || spirv[0] != 0x07230203) fail("these bytes are not a SPIR-V module (wrong magic number)");
    Reader reader(spirv, specialization);
    reader.finish();
    return reader.facts;
}

} // namespace tlite
