// The few calls of onnxruntime's C++ interface that docs/howto/embed.md makes, over the C function table of the library
// that comes in the Python package: so the program is compiled and run wherever there is a C++ compiler. Places in the
// table never change (onnxruntime_c_api.h: "DO NOT MODIFY ABOVE"); the comments name the functions.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

extern "C" struct OrtApiBase {
    void* const* (*GetApi)(uint32_t version);
};
extern "C" const OrtApiBase* OrtGetApiBase();

enum OrtLoggingLevel { ORT_LOGGING_LEVEL_WARNING = 2 };
enum OrtAllocatorType { OrtArenaAllocator = 1 };
enum OrtMemType { OrtMemTypeDefault = 0 };

namespace Ort {
template <typename Result, typename... Types>
Result call(int place, Types... arguments) {
    return reinterpret_cast<Result (*)(Types...)>(OrtGetApiBase()->GetApi(16)[place])(arguments...);
}

template <typename... Types>
void checked(int place, Types... arguments) {
    if (void* status = call<void*>(place, arguments...))
        throw std::runtime_error(call<const char*>(2, status));  // GetErrorMessage
}

struct Handle {
    void* at = nullptr;
    int release;
    explicit Handle(int place) : release(place) {}
    Handle(Handle&& other) : at(other.at), release(other.release) { other.at = nullptr; }
    ~Handle() {
        if (at) call<void>(release, at);
    }
};

struct Env : Handle {
    Env(OrtLoggingLevel level, const char* name) : Handle(92) { checked(3, int(level), name, &at); }  // CreateEnv
};
struct SessionOptions : Handle {
    SessionOptions() : Handle(100) { checked(10, &at); }  // CreateSessionOptions
};
struct RunOptions {
    explicit RunOptions(std::nullptr_t) {}
};
struct AllocatorWithDefaultOptions {
    void* at = nullptr;
    AllocatorWithDefaultOptions() { checked(78, &at); }  // GetAllocatorWithDefaultOptions
};
struct MemoryInfo : Handle {
    MemoryInfo() : Handle(94) {}
    static MemoryInfo CreateCpu(OrtAllocatorType allocator, OrtMemType type) {
        MemoryInfo info;
        checked(69, int(allocator), int(type), &info.at);  // CreateCpuMemoryInfo
        return info;
    }
};
struct Freed {
    void* allocator;
    void operator()(char* text) const { call<void*>(76, allocator, static_cast<void*>(text)); }  // AllocatorFree
};
struct ModelMetadata : Handle {
    ModelMetadata() : Handle(118) {}
    std::unique_ptr<char, Freed> LookupCustomMetadataMapAllocated(const char* key, AllocatorWithDefaultOptions& from) {
        char* value = nullptr;
        checked(116, at, from.at, key, &value);  // ModelMetadataLookupCustomMetadataMap
        return {value, Freed{from.at}};
    }
};
struct Value : Handle {
    Value() : Handle(96) {}
    template <typename T>
    static Value CreateTensor(MemoryInfo& info, T* data, size_t count, const int64_t* shape, size_t rank) {
        static_assert(sizeof(T) == sizeof(float));
        Value value;
        // CreateTensorWithDataAsOrtValue; 1 is ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
        checked(49, info.at, static_cast<void*>(data), count * sizeof(T), shape, rank, 1, &value.at);
        return value;
    }
    template <typename T>
    const T* GetTensorData() const {
        void* data = nullptr;
        checked(51, at, &data);  // GetTensorMutableData
        return static_cast<const T*>(data);
    }
};
struct Session : Handle {
    Session(Env& env, const char* path, const SessionOptions& options) : Handle(95) {
        checked(7, env.at, path, options.at, &at);  // CreateSession
    }
    ModelMetadata GetModelMetadata() {
        ModelMetadata metadata;
        checked(111, at, &metadata.at);  // SessionGetModelMetadata
        return metadata;
    }
    std::vector<Value> Run(
        const RunOptions&, const char* const* inputs, const Value* values, size_t, const char* const* outputs, size_t) {
        std::vector<Value> found(1);
        const void* options = nullptr;
        const void* given[] = {values[0].at};
        checked(9, at, options, inputs, &given[0], size_t(1), outputs, size_t(1), &found[0].at);  // Run
        return found;
    }
};
}  // namespace Ort
