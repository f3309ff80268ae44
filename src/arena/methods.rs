//! What arenas, scopes and the arenas of a pool have in common: allocating. Written once, and made methods of each by
//! a macro, because the results differ in how long they live: as long as the borrow of an arena, but as long as the
//! scope itself, whatever borrows its handle meanwhile.

/// The methods for values; `$life` is how long they live. The type has a method `header`.
macro_rules! value_methods {
    ($life:lifetime) => {
        /// Moves the value into the arena. Its `Drop` never runs: see [`alloc_owned`](Self::alloc_owned).
        ///
        /// # Panics
        /// Where [`try_alloc`](Self::try_alloc) is an error, with the numbers. So do all methods here that have a
        /// `try_` form.
        #[inline(always)]
        #[track_caller]
        pub fn alloc<T>(&self, value: T) -> &$life mut T {
            let mut place = Slot::<T, MIN_ALIGN>::take(self.header()).write(value);
            // SAFETY: the value was just written to memory that is this caller's for so long.
            unsafe { place.as_mut() }
        }

        /// As [`alloc`](Self::alloc).
        ///
        /// # Errors
        /// The arena's range or limit is used up, or the system has no memory. The arena stays usable. So it is with
        /// all `try_` methods.
        #[inline(always)]
        pub fn try_alloc<T>(&self, value: T) -> Result<&$life mut T, ArenaError> {
            let mut place = Slot::<T, MIN_ALIGN>::try_take(self.header())?.write(value);
            // SAFETY: as in `alloc`.
            Ok(unsafe { place.as_mut() })
        }

        /// Makes the value in its place, so that a large one is not moved there. The closure may allocate too.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_with<T>(&self, make: impl FnOnce() -> T) -> &$life mut T {
            let slot = Slot::<T, MIN_ALIGN>::take(self.header());
            let mut place = slot.write(make());
            // SAFETY: as in `alloc`.
            unsafe { place.as_mut() }
        }

        /// As [`alloc_with`](Self::alloc_with).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc); the closure was not called then.
        #[inline(always)]
        pub fn try_alloc_with<T>(&self, make: impl FnOnce() -> T) -> Result<&$life mut T, ArenaError> {
            let slot = Slot::<T, MIN_ALIGN>::try_take(self.header())?;
            let mut place = slot.write(make());
            // SAFETY: as in `alloc`.
            Ok(unsafe { place.as_mut() })
        }

        /// As [`alloc_with`](Self::alloc_with); an error of the closure is passed on, and the value's memory taken
        /// back unless something was allocated behind it.
        ///
        /// # Errors
        /// What the closure says.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_try_with<T, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&$life mut T, E> {
            let slot = Slot::<T, MIN_ALIGN>::take(self.header());
            let mut place = slot.write(make()?);
            // SAFETY: as in `alloc`.
            Ok(unsafe { place.as_mut() })
        }

        /// As [`alloc_try_with`](Self::alloc_try_with).
        ///
        /// # Errors
        /// The outer one as for [`try_alloc`](Self::try_alloc), the inner one is the closure's.
        #[inline(always)]
        pub fn try_alloc_try_with<T, E>(
            &self,
            make: impl FnOnce() -> Result<T, E>,
        ) -> Result<Result<&$life mut T, E>, ArenaError> {
            let slot = Slot::<T, MIN_ALIGN>::try_take(self.header())?;
            Ok(make().map(|value| {
                let mut place = slot.write(value);
                // SAFETY: as in `alloc`.
                unsafe { place.as_mut() }
            }))
        }

        /// Room for a value, uninitialised.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_uninit<T>(&self) -> &$life mut MaybeUninit<T> {
            let mut place = Slot::<T, MIN_ALIGN>::take(self.header()).leave();
            // SAFETY: nothing need be written, and the memory is this caller's for so long.
            unsafe { place.as_mut() }
        }

        /// As [`alloc_uninit`](Self::alloc_uninit).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc).
        #[inline(always)]
        pub fn try_alloc_uninit<T>(&self) -> Result<&$life mut MaybeUninit<T>, ArenaError> {
            let mut place = Slot::<T, MIN_ALIGN>::try_take(self.header())?.leave();
            // SAFETY: as in `alloc_uninit`.
            Ok(unsafe { place.as_mut() })
        }

        /// Moves the value into the arena; the handle owns it and runs its `Drop`.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_owned<T>(&self, value: T) -> Owned<$life, T> {
            let place = Slot::<T, MIN_ALIGN>::take(self.header()).write(value);
            // SAFETY: the value was just written to memory that is this handle's for so long.
            unsafe { Owned::from_raw(place) }
        }

        /// As [`alloc_owned`](Self::alloc_owned).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc).
        #[inline(always)]
        pub fn try_alloc_owned<T>(&self, value: T) -> Result<Owned<$life, T>, ArenaError> {
            let place = Slot::<T, MIN_ALIGN>::try_take(self.header())?.write(value);
            // SAFETY: as in `alloc_owned`.
            Ok(unsafe { Owned::from_raw(place) })
        }

        /// Memory of this layout, uninitialised. Good for as long as a value would be.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_layout(&self, layout: Layout) -> NonNull<u8> {
            self.header().take::<MIN_ALIGN>(layout)
        }

        /// As [`alloc_layout`](Self::alloc_layout).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc).
        #[inline(always)]
        pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, ArenaError> {
            self.header().try_take::<MIN_ALIGN>(layout)
        }

        /// Bytes in use: a scope's own, or all of an arena's. Padding counts, and so does what a forgotten cursor had
        /// left.
        #[must_use]
        pub fn used(&self) -> usize {
            self.header().cursor_addr().saturating_sub(self.start_addr())
        }

        /// The most bytes that were in use at a time: since the scope began, or since the arena was made or reset.
        #[must_use]
        pub fn peak(&self) -> usize {
            self.header().peak().saturating_sub(self.start_addr())
        }

        /// Bytes that are committed: those that may be used without a call to the system.
        #[must_use]
        pub fn committed(&self) -> usize {
            self.header().limit.get() - self.header().first.addr().get()
        }

        /// Whether the address lies in what is in use: of the scope, or of the arena.
        #[must_use]
        pub fn contains<T: ?Sized>(&self, ptr: *const T) -> bool {
            (self.start_addr()..self.header().cursor_addr()).contains(&ptr.addr())
        }
    };
}

/// The methods for slices and text.
macro_rules! slice_methods {
    ($life:lifetime) => {
        /// Room for `len` values, uninitialised.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_slice_uninit<T>(&self, len: usize) -> &$life mut [MaybeUninit<T>] {
            let layout = layout::<T>(len).unwrap_or_else(|error| error.panic());
            let start = self.header().take::<MIN_ALIGN>(layout).cast();
            // SAFETY: the block has room for `len`, nothing need be written, and it is this caller's for so long.
            unsafe { NonNull::slice_from_raw_parts(start, len).as_mut() }
        }

        /// As [`alloc_slice_uninit`](Self::alloc_slice_uninit).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc), and for a length that overflows.
        #[inline(always)]
        pub fn try_alloc_slice_uninit<T>(&self, len: usize) -> Result<&$life mut [MaybeUninit<T>], ArenaError> {
            let start = self.header().try_take::<MIN_ALIGN>(layout::<T>(len)?)?.cast();
            // SAFETY: as in `alloc_slice_uninit`.
            Ok(unsafe { NonNull::slice_from_raw_parts(start, len).as_mut() })
        }

        /// A copy of the slice.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_slice_copy<T: Copy>(&self, values: &[T]) -> &$life mut [T] {
            let start = self.header().take::<MIN_ALIGN>(Layout::for_value(values));
            // SAFETY: the block has room for the values, and nobody else knows of it.
            unsafe { copy_to(start, values).as_mut() }
        }

        /// As [`alloc_slice_copy`](Self::alloc_slice_copy).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc).
        #[inline(always)]
        pub fn try_alloc_slice_copy<T: Copy>(&self, values: &[T]) -> Result<&$life mut [T], ArenaError> {
            let start = self.header().try_take::<MIN_ALIGN>(Layout::for_value(values))?;
            // SAFETY: as in `alloc_slice_copy`.
            Ok(unsafe { copy_to(start, values).as_mut() })
        }

        /// A copy of the text.
        #[inline(always)]
        #[track_caller]
        pub fn alloc_str(&self, text: &str) -> &$life mut str {
            let bytes = self.alloc_slice_copy(text.as_bytes());
            // SAFETY: a copy of what was UTF-8.
            unsafe { str::from_utf8_unchecked_mut(bytes) }
        }

        /// As [`alloc_str`](Self::alloc_str).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc).
        #[inline(always)]
        pub fn try_alloc_str(&self, text: &str) -> Result<&$life mut str, ArenaError> {
            let bytes = self.try_alloc_slice_copy(text.as_bytes())?;
            // SAFETY: as in `alloc_str`.
            Ok(unsafe { str::from_utf8_unchecked_mut(bytes) })
        }

        with_try_form! {
            /// A clone of each value.
            $life alloc_slice_clone try_alloc_slice_clone [T: Clone] (values: &[T]) -> [T] {
                |header| of_exact::<T, MIN_ALIGN>(header, values.iter().cloned())
            }
        }

        with_try_form! {
            /// `len` clones of the value.
            $life alloc_slice_fill try_alloc_slice_fill [T: Clone] (len: usize, value: T) -> [T] {
                |header| of_exact::<T, MIN_ALIGN>(header, std::iter::repeat_n(value, len))
            }
        }

        with_try_form! {
            /// `len` default values.
            $life alloc_slice_default try_alloc_slice_default [T: Default] (len: usize) -> [T] {
                |header| of_exact::<T, MIN_ALIGN>(header, (0..len).map(|_| T::default()))
            }
        }

        with_try_form! {
            /// `len` values, made from their indexes.
            $life alloc_slice_with try_alloc_slice_with [T] (len: usize, make: impl FnMut(usize) -> T) -> [T] {
                |header| of_exact::<T, MIN_ALIGN>(header, (0..len).map(make))
            }
        }

        with_try_form! {
            /// The values of an iterator that knows how many there are. Should it have fewer, the slice is shorter;
            /// what it has beyond its word is not asked for.
            $life alloc_slice_exact try_alloc_slice_exact [T]
            (values: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) -> [T] {
                |header| of_exact::<T, MIN_ALIGN>(header, values.into_iter())
            }
        }

        with_try_form! {
            /// The values of any iterator. The slice grows where it is, unless the iterator allocates here too.
            $life alloc_slice_iter try_alloc_slice_iter [T] (values: impl IntoIterator<Item = T>) -> [T] {
                |header| of_any::<T, MIN_ALIGN>(header, values.into_iter())
            }
        }

        with_try_form! {
            /// Formatted text. It panics, as `format!` does, if a `Display` fails by itself.
            ///
            /// ```
            /// let arena = arenite::Arena::new();
            /// let text = arena.alloc_fmt(format_args!("{} + {}", 1, 2));
            /// assert_eq!(text, "1 + 2");
            /// ```
            $life alloc_fmt try_alloc_fmt [] (arguments: fmt::Arguments<'_>) -> str {
                |header| Text::<MIN_ALIGN>::of(header, arguments, b"").map(as_text)
            }
        }

        with_try_form! {
            /// A copy of a C string.
            $life alloc_c_str try_alloc_c_str [] (text: &CStr) -> CStr {
                |header| of_exact::<u8, MIN_ALIGN>(header, text.to_bytes_with_nul().iter().copied()).map(as_c_str)
            }
        }

        with_try_form! {
            /// The text as a C string; it ends at the first NUL if there is one in it.
            $life alloc_c_str_from try_alloc_c_str_from [] (text: &str) -> CStr {
                |header| c_text::<MIN_ALIGN>(header, text)
            }
        }

        /// The values of an iterator as a slice that owns them and runs their `Drop`.
        #[track_caller]
        pub fn alloc_owned_slice<T>(&self, values: impl IntoIterator<Item = T>) -> Owned<$life, [T]> {
            self.try_alloc_owned_slice(values).unwrap_or_else(|error| error.panic())
        }

        /// As [`alloc_owned_slice`](Self::alloc_owned_slice).
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc).
        pub fn try_alloc_owned_slice<T>(
            &self,
            values: impl IntoIterator<Item = T>,
        ) -> Result<Owned<$life, [T]>, ArenaError> {
            let place = of_any::<T, MIN_ALIGN>(self.header(), values.into_iter())?;
            // SAFETY: the values were just written to memory that is this handle's for so long.
            Ok(unsafe { Owned::from_raw(place) })
        }
    };
}

/// A method and its `try_` form: the second has the body, which makes a pointer from the header.
macro_rules! with_try_form {
    ($(#[$doc:meta])* $life:lifetime $name:ident $try_name:ident [$($generics:tt)*]
     ($($arg:ident : $ty:ty),*) -> $out:ty { |$header:ident| $body:expr }) => {
        $(#[$doc])*
        #[inline]
        #[track_caller]
        pub fn $name<$($generics)*>(&self, $($arg: $ty),*) -> &$life mut $out {
            self.$try_name($($arg),*).unwrap_or_else(|error| error.panic())
        }

        #[doc = concat!("As [`", stringify!($name), "`](Self::", stringify!($name), ").")]
        ///
        /// # Errors
        /// As for [`try_alloc`](Self::try_alloc), and for a length that overflows.
        #[inline]
        pub fn $try_name<$($generics)*>(&self, $($arg: $ty),*) -> Result<&$life mut $out, ArenaError> {
            let $header = self.header();
            let made: Result<NonNull<$out>, ArenaError> = $body;
            // SAFETY: the body has initialised memory that is this caller's for so long.
            made.map(|mut place| unsafe { place.as_mut() })
        }
    };
}

pub(crate) use {slice_methods, value_methods, with_try_form};
